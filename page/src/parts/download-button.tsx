// Hands a file's bytes to the browser's own downloads.

import type { Attachment, LegacyItem } from "keepsake-client";
import { useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { useKeepsake } from "../keepsake";
import { inOneLine } from "../words";
import { DownloadIcon } from "./icons";

interface Props {
  readonly attachment: Attachment | LegacyItem;
  /** Another version than the current one. */
  readonly version?: number;
}

export function DownloadButton({ attachment, version }: Props) {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const [busy, setBusy] = useState(false);
  const { id, name, state, content_url } = attachment;
  const download = async () => {
    if (busy) return;
    setBusy(true);
    try {
      if (id === null) save(content_url);
      else if (version === undefined) save(await keepsake.attachments.contentUrl(id));
      else save(await keepsake.attachments.versionUrl(id, version));
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setBusy(false);
    }
  };
  if (state !== "available") return null;
  const what = version === undefined ? name : `version ${version}`;
  return (
    <button type="button" class="icon" aria-label={`Download ${what}`} title="Download" onClick={download}>
      <DownloadIcon />
    </button>
  );
}

/** As a click on a link would; the answer says that it is an attachment. */
function save(url: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.rel = "noreferrer";
  link.download = "";
  link.click();
}
