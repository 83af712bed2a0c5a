// What waits for the schedule, or was given up after too many attempts and can be retried.

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { ago, counted, moment } from "../format";
import { MoreButton, useListing } from "../parts/listing";
import { Empty, Failure, Loading } from "../parts/states";
import { inOneLine } from "../words";
import { Choice } from "./choice";

/** One thing that waits. */
export interface Waiting {
  readonly id: number;
  /** What it is called, also for who hears it. */
  readonly name: string;
  /** What else there is to say of it. */
  readonly more?: ComponentChildren;
  readonly since: string;
  readonly attempts: number;
  readonly error: string | null;
  readonly state: "waiting" | "running" | "dead";
}

type State = "dead" | "waiting";

const STATES: readonly { readonly label: string; readonly value: State }[] = [
  { label: "Failed", value: "dead" },
  { label: "Waiting", value: "waiting" },
];

const WORDS: Record<Waiting["state"], { readonly word: string; readonly tone: string }> = {
  dead: { word: "Failed", tone: "shut" },
  running: { word: "In progress", tone: "good" },
  waiting: { word: "Waiting", tone: "" },
};

interface PageOf {
  readonly items: readonly Waiting[];
  readonly next_cursor: string | null;
}

interface BacklogProps {
  /** Names the part on the page. */
  readonly id: string;
  readonly title: string;
  /** What is fetched, for who waits for it. */
  readonly what: string;
  /** When there is none in this state. */
  readonly none: Record<State, { readonly title: string; readonly text: string }>;
  readonly list: (state: State, next: { cursor?: string; signal: AbortSignal }) => Promise<PageOf>;
  readonly retry: (id: number) => Promise<void>;
  /** What `list` depends on. */
  readonly keys: readonly unknown[];
}

export function Backlog({ id, title, what, none, list, retry, keys }: BacklogProps) {
  const [state, setState] = useState<State>("dead");
  const announce = useAnnounce();
  const heading = useRef<HTMLHeadingElement>(null);
  const listing = useListing((next) => list(state, next), [...keys, state]);
  const retried = async (one: Waiting) => {
    try {
      await retry(one.id);
      announce({ text: "It is at the head of the queue. The next run retries it." });
      if (state === "dead") {
        listing.drop((other) => other.id === one.id);
        heading.current?.focus();
      } else await listing.reload();
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    }
  };
  return (
    <section class="part" aria-labelledby={id}>
      <div class="part-head">
        <h2 id={id} ref={heading} tabIndex={-1}>
          {title}
        </h2>
        <Choice label="State" options={STATES} value={state} onChange={setState} />
      </div>
      {listing.state === "loading" && <Loading what={what} rows={2} />}
      {listing.state === "failed" && <Failure error={listing.error} onRetry={listing.reload} />}
      {listing.state === "there" && listing.items.length === 0 && (
        <Empty title={none[state].title} level={3}>
          <p>{none[state].text}</p>
        </Empty>
      )}
      {listing.state === "there" && listing.items.length > 0 && (
        <ul class="rows">
          {listing.items.map((one) => (
            <WaitingRow key={one.id} one={one} onRetry={() => retried(one)} />
          ))}
        </ul>
      )}
      <MoreButton listing={listing} />
    </section>
  );
}

function WaitingRow({ one, onRetry }: { readonly one: Waiting; readonly onRetry: () => void }) {
  const { word, tone } = WORDS[one.state];
  return (
    <li class="row">
      <div class="row-text">
        <code class="key">{one.name}</code>
        <span class="quiet row-facts">
          {one.more}
          <span title={moment(one.since)}>since {ago(one.since)}</span>
          {one.attempts > 0 && <span>{counted(one.attempts, "attempt")}</span>}
          {one.error && <span class="refusal">{one.error}</span>}
        </span>
      </div>
      <span class={`state ${tone}`}>{word}</span>
      {one.error && one.state !== "running" && (
        <button type="button" class="button second" aria-label={`Retry: ${one.name}`} onClick={onRetry}>
          Retry
        </button>
      )}
    </li>
  );
}
