// How a file or a deletion stands, in plain words.

import type { Attachment, LegacyItem } from "keepsake-client";
import { counted, day } from "../format";

type State = Attachment["state"];

const WORDS: Record<Exclude<State, "available">, { readonly state: string; readonly look: string }> = {
  scanning: { state: "Scanning", look: "waiting" },
  quarantined: { state: "Quarantined: malware", look: "shut" },
};

/** What a file that is shut is shown as; nothing of one that can be opened. */
export function FileState({ attachment: { state } }: { attachment: Attachment | LegacyItem }) {
  if (state === "available") return null;
  return <span class={`state ${WORDS[state].look}`}>{WORDS[state].state}</span>;
}

/** Why it is shut, and what to do about it. */
export function whyShut(state: State, mayWrite: boolean): string | undefined {
  if (state === "scanning") {
    return "It is being scanned for malware, and becomes available when it is found clean.";
  }
  if (state === "quarantined") {
    const advice = mayWrite ? " Delete it, and add a clean copy." : "";
    return `The scanner found malware in it, so that nobody can download it.${advice}`;
  }
  return undefined;
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
      <span class="state waiting" title="A legal hold keeps it from being purged.">
        On hold until released
      </span>
    );
  }
  const soon = typeof daysLeft === "number" && daysLeft <= 3;
  const title = purgeAfter ? `May be purged on ${day(purgeAfter)}` : undefined;
  return (
    <span class={`state ${soon ? "waiting" : ""}`} title={title}>
      {stay(daysLeft)}
    </span>
  );
}

function stay(daysLeft: number | null | undefined): string {
  if (daysLeft === null) return "In the bin, kept forever";
  if (daysLeft === undefined) return "In the bin";
  return daysLeft === 0
    ? "In the bin, may be purged at any time"
    : `In the bin, ${counted(daysLeft, "day")} left`;
}
