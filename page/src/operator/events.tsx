// What happened to attachments, and the receiver of events has not been told yet.

import type { Event, KeepsakeOperator } from "keepsake-client";
import { Backlog, type Waiting } from "./backlog";

const NONE = {
  dead: {
    title: "No failed deliveries",
    text: "An event fails for good after 14 attempts in about 17 hours.",
  },
  waiting: { title: "Nothing is waiting", text: "Each event was delivered, or no receiver is set up." },
};

function waiting(event: Event): Waiting {
  return {
    id: event.id,
    name: event.type,
    more: (
      <span>
        of <code>{event.attachment_id}</code>
      </span>
    ),
    since: event.happened_at,
    attempts: event.attempts,
    error: event.last_error,
    state: event.dead_at ? "dead" : "waiting",
  };
}

export function Events({ operator }: { operator: KeepsakeOperator }) {
  return (
    <Backlog
      id="events-heading"
      title="Events to deliver"
      what="the events"
      none={NONE}
      list={async (state, next) => {
        const page = await operator.events.list({ state, limit: 20 }, next);
        return { ...page, items: page.items.map(waiting) };
      }}
      retry={(id) => operator.events.retry(id)}
      keys={[operator]}
    />
  );
}
