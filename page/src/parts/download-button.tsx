// Hands a file's bytes to the browser's own downloads.

import { useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { type Attachment, useKeepsake } from "../keepsake";
import { inOneLine } from "../words";

export function DownloadButton({ attachment }: { attachment: Attachment }) {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const [busy, setBusy] = useState(false);
  const { id, name, state, content_url } = attachment;
  const download = async () => {
    if (busy) return;
    setBusy(true);
    try {
      save(id === null ? content_url : await keepsake.download(id));
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setBusy(false);
    }
  };
  if (state !== "available") return null;
  return (
    <button type="button" class="icon" aria-label={`Download ${name}`} title="Download" onClick={download}>
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <path d="M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10" />
      </svg>
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
