// Leads to the history of a file.

import type { Attachment, LegacyItem } from "keepsake-client";
import { fileAddress } from "../items";
import { VersionsIcon } from "./icons";

/** Nothing of a file from before Keepsake, nor of one that is shut. */
export function VersionsLink({ attachment: { id, name, state } }: { attachment: Attachment | LegacyItem }) {
  if (id === null || state !== "available") return null;
  return (
    <a class="icon" href={fileAddress(id)} title="Versions" aria-label={`Versions of ${name}`}>
      <VersionsIcon />
    </a>
  );
}
