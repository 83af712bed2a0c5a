// Legal holds: what they cover is not purged, however long its time has run out.

import type { Hold, HoldRequest, KeepsakeOperator } from "keepsake-client";
import { useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { ago, moment } from "../format";
import { MoreButton, useListing } from "../parts/listing";
import { Empty, Failure, Loading } from "../parts/states";
import { inOneLine } from "../words";
import { Choice } from "./choice";

const STATES = [
  { label: "Active", value: "active" },
  { label: "Released", value: "released" },
] as const;

/** What is held, in words. */
function named({ kind, entity_type, target, label }: Hold): string {
  if (kind === "row") return `Row ${target} of ${label}`;
  const what = kind === "entity" ? (entity_type ?? kind) : kind;
  const name = label ? `“${label}” (${target})` : target;
  return `${what.charAt(0).toUpperCase()}${what.slice(1)} ${name}`;
}

export function Holds({ operator }: { operator: KeepsakeOperator }) {
  const [state, setState] = useState<"active" | "released">("active");
  const heading = useRef<HTMLHeadingElement>(null);
  const listing = useListing((next) => operator.holds.list({ state, limit: 20 }, next), [operator, state]);
  const released = (hold: Hold) => {
    listing.drop(({ id }) => id === hold.id);
    heading.current?.focus();
  };
  return (
    <section class="part" aria-labelledby="holds-heading">
      <div class="part-head">
        <h2 id="holds-heading" ref={heading} tabIndex={-1}>
          Legal holds
        </h2>
        <Choice label="State" options={STATES} value={state} onChange={setState} />
      </div>
      {listing.state === "loading" && <Loading what="the holds" rows={2} />}
      {listing.state === "failed" && <Failure error={listing.error} onRetry={listing.reload} />}
      {listing.state === "there" && listing.items.length === 0 && (
        <Empty title={state === "active" ? "No active holds" : "No released holds"} level={3}>
          <p>A hold keeps what it covers from being purged. It can still be deleted and restored.</p>
        </Empty>
      )}
      {listing.state === "there" && listing.items.length > 0 && (
        <ul class="rows">
          {listing.items.map((hold) => (
            <HoldRow key={hold.id} hold={hold} operator={operator} onReleased={released} />
          ))}
        </ul>
      )}
      <MoreButton listing={listing} />
      <details class="fold">
        <summary>Place a hold</summary>
        <HoldForm
          operator={operator}
          onPlaced={() => (state === "active" ? listing.reload() : setState("active"))}
        />
      </details>
    </section>
  );
}

interface RowProps {
  readonly hold: Hold;
  readonly operator: KeepsakeOperator;
  readonly onReleased: (hold: Hold) => void;
}

function HoldRow({ hold, operator, onReleased }: RowProps) {
  const announce = useAnnounce();
  const [asks, setAsks] = useState(false);
  const [reason, setReason] = useState("");
  const release = async (event: Event) => {
    event.preventDefault();
    try {
      await operator.holds.release(hold.id, reason);
      announce({ text: `${named(hold)} is no longer on hold.` });
      onReleased(hold);
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    }
  };
  return (
    <li class="row">
      <div class="row-text">
        <span class="row-name">
          <bdi dir="auto">{named(hold)}</bdi>
        </span>
        <span class="quiet row-facts">
          <bdi dir="auto">{hold.reason}</bdi>
          <span title={moment(hold.held_at)}>
            by <bdi>{hold.actor}</bdi>, {ago(hold.held_at)}
          </span>
          {hold.released_at && (
            <span title={moment(hold.released_at)}>
              released by <bdi>{hold.released_by}</bdi>, {ago(hold.released_at)}:{" "}
              <bdi dir="auto">{hold.release_reason}</bdi>
            </span>
          )}
        </span>
      </div>
      {!hold.released_at && !asks && (
        <button
          type="button"
          class="button second"
          aria-label={`Release ${named(hold)}`}
          onClick={() => setAsks(true)}
        >
          Release
        </button>
      )}
      {asks && (
        <form class="inline" onSubmit={release}>
          <label>
            Reason for the release
            <input
              type="text"
              required
              maxLength={255}
              value={reason}
              ref={(field) => field?.focus()}
              onInput={({ currentTarget }) => setReason(currentTarget.value)}
            />
          </label>
          <button type="submit" class="button">
            Release
          </button>
          <button type="button" class="plain" onClick={() => setAsks(false)}>
            Cancel
          </button>
        </form>
      )}
    </li>
  );
}

const KINDS: readonly { readonly kind: HoldRequest["kind"]; readonly label: string; readonly id: string }[] =
  [
    { kind: "tenant", label: "A tenant", id: "Tenant" },
    { kind: "entity", label: "An entity", id: "Its id" },
    { kind: "attachment", label: "An attachment", id: "Its id" },
    { kind: "deletion", label: "A deletion", id: "Its id" },
  ];

function HoldForm({ operator, onPlaced }: { operator: KeepsakeOperator; onPlaced: () => void }) {
  const announce = useAnnounce();
  const [kind, setKind] = useState<HoldRequest["kind"]>("tenant");
  const form = useRef<HTMLFormElement>(null);
  const place = async (event: SubmitEvent) => {
    event.preventDefault();
    if (!form.current) return;
    const given = new FormData(form.current);
    const field = (name: string) => String(given.get(name) ?? "").trim();
    const type = kind === "entity" ? { entity_type: field("type") } : {};
    try {
      const hold = await operator.holds.place({ kind, ...type, id: field("id"), reason: field("reason") });
      announce({ text: `${named(hold)} is on hold.` });
      form.current.reset();
      onPlaced();
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    }
  };
  return (
    <form class="fields" ref={form} onSubmit={place}>
      <label>
        What
        <select
          value={kind}
          onChange={({ currentTarget }) => setKind(currentTarget.value as HoldRequest["kind"])}
        >
          {KINDS.map((one) => (
            <option key={one.kind} value={one.kind}>
              {one.label}
            </option>
          ))}
        </select>
      </label>
      {kind === "entity" && (
        <label>
          Entity type
          <input type="text" name="type" required placeholder="post" />
        </label>
      )}
      <label>
        {KINDS.find((one) => one.kind === kind)?.id}
        <input type="text" name="id" required maxLength={255} />
      </label>
      <label>
        Reason
        <input type="text" name="reason" required maxLength={255} />
      </label>
      <button type="submit" class="button">
        Place the hold
      </button>
    </form>
  );
}
