// Hands a file's bytes to the browser's own downloads.

import type { Attachment, LegacyItem } from "keepsake-client";
import { useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { useKeepsake } from "../keepsake";
import { inOneLine } from "../words";
import { DownloadIcon } from "./icons";

export function DownloadButton({ attachment }: { attachment: Attachment | LegacyItem }) {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const [busy, setBusy] = useState(false);
  const { id, name, state, content_url } = attachment;
  const download = async () => {
    if (busy) return;
    setBusy(true);
    try {
      save(id === null ? content_url : await keepsake.attachments.contentUrl(id));
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setBusy(false);
    }
  };
  if (state !== "available") return null;
  return (
    <button type="button" class="icon" aria-label={`Download ${name}`} title="Download" onClick={download}>
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
