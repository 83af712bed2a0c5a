// How a file stands, in plain words.

import { counted, day } from "../format";
import type { Attachment } from "../keepsake";

const STATES: Record<string, { readonly words: string; readonly look: string; readonly why: string }> = {
  pending: { words: "Uploading", look: "waiting", why: "Its bytes have not all arrived yet." },
  checking: { words: "Checking", look: "waiting", why: "What arrived is compared with what was declared." },
  scanning: {
    words: "Scanning",
    look: "waiting",
    why: "It is looked at for malware, and can be opened once it is found clean.",
  },
  quarantined: { words: "Shut: malware found", look: "shut", why: "It cannot be opened any more." },
  purged: { words: "Gone for good", look: "shut", why: "Its time in the bin is over." },
};

export function FileState({ attachment }: { attachment: Attachment }) {
  const { state, days_left, purge_after, held } = attachment;
  if (state === "available") return null;
  if (state === "deleted") return <BinState daysLeft={days_left} purgeAfter={purge_after} held={held} />;
  const known = STATES[state];
  return (
    <span class={`state ${known?.look ?? ""}`} title={known?.why}>
      {known?.words ?? state}
    </span>
  );
}

interface BinProps {
  readonly daysLeft: number | undefined;
  readonly purgeAfter: string | undefined;
  readonly held?: boolean | undefined;
}

/** How long something stays in the bin. */
export function BinState({ daysLeft, purgeAfter, held }: BinProps) {
  if (held) {
    return (
      <span class="state waiting" title="A legal hold keeps it until it is released.">
        Held: stays until released
      </span>
    );
  }
  const soon = daysLeft !== undefined && daysLeft <= 3;
  return (
    <span
      class={`state ${soon ? "waiting" : ""}`}
      title={purgeAfter && `Gone for good on ${day(purgeAfter)}`}
    >
      {daysLeft === undefined
        ? "In the bin"
        : daysLeft === 0
          ? "In the bin, may go at any time"
          : `In the bin, ${counted(daysLeft, "day")} left`}
    </span>
  );
}
