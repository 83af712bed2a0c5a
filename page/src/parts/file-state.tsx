// How a file or a deletion stands, in plain words.

import type { Attachment, LegacyItem } from "keepsake-client";
import { counted, day } from "../format";

const STATES: Record<string, { readonly words: string; readonly look: string; readonly why: string }> = {
  pending: { words: "Uploading", look: "waiting", why: "Its bytes have not all arrived yet." },
  scanning: {
    words: "Scanning",
    look: "waiting",
    why: "It is looked at for malware, and can be opened once it is found clean.",
  },
  quarantined: { words: "Shut: malware found", look: "shut", why: "It cannot be opened any more." },
};

export function FileState({ attachment }: { attachment: Attachment | LegacyItem }) {
  const { state } = attachment;
  if (state === "available") return null;
  if (state === "deleted")
    return <BinState daysLeft={attachment.days_left} purgeAfter={attachment.purge_after} />;
  const known = STATES[state];
  return (
    <span class={`state ${known?.look ?? ""}`} title={known?.why}>
      {known?.words ?? state}
    </span>
  );
}

interface BinProps {
  readonly daysLeft: number | null | undefined;
  readonly purgeAfter: string | null | undefined;
  readonly held?: boolean;
}

/** How long something stays in the bin. */
export function BinState({ daysLeft, purgeAfter, held = false }: BinProps) {
  if (held) {
    return (
      <span class="state waiting" title="A legal hold keeps it, whatever its days.">
        Held: stays until released
      </span>
    );
  }
  const soon = typeof daysLeft === "number" && daysLeft <= 3;
  const title = purgeAfter ? `May go for good on ${day(purgeAfter)}` : undefined;
  return (
    <span class={`state ${soon ? "waiting" : ""}`} title={title}>
      {stay(daysLeft)}
    </span>
  );
}

function stay(daysLeft: number | null | undefined): string {
  if (daysLeft === null) return "In the bin for ever";
  if (daysLeft === undefined) return "In the bin";
  return daysLeft === 0 ? "In the bin, may go at any time" : `In the bin, ${counted(daysLeft, "day")} left`;
}
