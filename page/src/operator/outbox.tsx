// Objects whose rows are gone and whose bytes are not, yet.

import type { KeepsakeOperator, OutboxObject } from "keepsake-client";
import { useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { ago, counted, moment } from "../format";
import { MoreButton, useListing } from "../parts/listing";
import { Empty, Failure, Loading } from "../parts/states";
import { inOneLine } from "../words";
import { Choice } from "./choice";

const STATES = [
  { label: "Failed", value: "dead" },
  { label: "Waiting", value: "waiting" },
] as const;

export function Outbox({ operator }: { operator: KeepsakeOperator }) {
  const [state, setState] = useState<"dead" | "waiting">("dead");
  const announce = useAnnounce();
  const heading = useRef<HTMLHeadingElement>(null);
  const listing = useListing((next) => operator.outbox.list({ state, limit: 20 }, next), [operator, state]);
  const retry = async (object: OutboxObject) => {
    try {
      await operator.outbox.retry(object.id);
      announce({ text: "It is at the head of the queue. The next run retries it." });
      if (state === "dead") {
        listing.drop(({ id }) => id === object.id);
        heading.current?.focus();
      } else await listing.reload();
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    }
  };
  return (
    <section class="part" aria-labelledby="outbox-heading">
      <div class="part-head">
        <h2 id="outbox-heading" ref={heading} tabIndex={-1}>
          Objects to delete
        </h2>
        <Choice label="State" options={STATES} value={state} onChange={setState} />
      </div>
      {listing.state === "loading" && <Loading what="the outbox" rows={2} />}
      {listing.state === "failed" && <Failure error={listing.error} onRetry={listing.reload} />}
      {listing.state === "there" && listing.items.length === 0 && (
        <Empty title={state === "dead" ? "No failed deletions" : "Nothing is waiting"} level={3}>
          <p>
            {state === "dead"
              ? "A deletion fails for good after the store refused it 12 times."
              : "Every object whose row was purged is deleted from the bucket too."}
          </p>
        </Empty>
      )}
      {listing.state === "there" && listing.items.length > 0 && (
        <ul class="rows">
          {listing.items.map((object) => (
            <li class="row" key={object.id}>
              <div class="row-text">
                <code class="key">{object.object_key}</code>
                <span class="quiet row-facts">
                  <span title={moment(object.enqueued_at)}>since {ago(object.enqueued_at)}</span>
                  {object.attempts > 0 && <span>{counted(object.attempts, "attempt")}</span>}
                  {object.last_error && <span class="refusal">{object.last_error}</span>}
                </span>
              </div>
              <span
                class={`state ${object.state === "dead" ? "shut" : object.state === "leased" ? "good" : ""}`}
              >
                {object.state === "dead" ? "Failed" : object.state === "leased" ? "In progress" : "Waiting"}
              </span>
              {object.last_error && object.state !== "leased" && (
                <button
                  type="button"
                  class="button second"
                  aria-label={`Retry: ${object.object_key}`}
                  onClick={() => retry(object)}
                >
                  Retry
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      <MoreButton listing={listing} />
    </section>
  );
}
