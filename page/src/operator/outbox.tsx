// Objects whose rows are gone and whose bytes are not, yet.

import type { KeepsakeOperator, OutboxObject } from "keepsake-client";
import { Backlog, type Waiting } from "./backlog";

const NONE = {
  dead: {
    title: "No failed deletions",
    text: "A deletion fails for good after the store refused it 12 times.",
  },
  waiting: {
    title: "Nothing is waiting",
    text: "Every object whose row was purged is deleted from the bucket too.",
  },
};

function waiting(object: OutboxObject): Waiting {
  return {
    id: object.id,
    name: object.object_key,
    since: object.enqueued_at,
    attempts: object.attempts,
    error: object.last_error,
    state: object.state === "leased" ? "running" : object.state,
  };
}

export function Outbox({ operator }: { operator: KeepsakeOperator }) {
  return (
    <Backlog
      id="outbox-heading"
      title="Objects to delete"
      what="the outbox"
      none={NONE}
      list={async (state, next) => {
        const page = await operator.outbox.list({ state, limit: 20 }, next);
        return { ...page, items: page.items.map(waiting) };
      }}
      retry={(id) => operator.outbox.retry(id)}
      keys={[operator]}
    />
  );
}
