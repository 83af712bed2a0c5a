// Erasures: what names a tenant, or one person in it, is removed whatever its retention. Each leaves a certificate.

import type { Erasure, ErasureRequest, KeepsakeOperator } from "keepsake-client";
import { useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { ago, counted, moment } from "../format";
import { MoreButton, useListing } from "../parts/listing";
import { Empty, Failure, Loading } from "../parts/states";
import { inOneLine } from "../words";

const WHY: Record<Erasure["kept"][number]["why"], string> = {
  held: "on hold",
  referenced: "still referenced",
  shared: "in a deletion with rows of another tenant",
};

export function Erasures({ operator }: { operator: KeepsakeOperator }) {
  const listing = useListing((next) => operator.erasures.list({ limit: 20 }, next), [operator]);
  return (
    <section class="part" aria-labelledby="erasures-heading">
      <div class="part-head">
        <h2 id="erasures-heading">Erasures</h2>
      </div>
      {listing.state === "loading" && <Loading what="the certificates" rows={2} />}
      {listing.state === "failed" && <Failure error={listing.error} onRetry={listing.reload} />}
      {listing.state === "there" && listing.items.length === 0 && (
        <Empty title="Nothing was erased" level={3}>
          <p>
            An erasure removes files, rows and names at once. Its certificate says how much, and not of whom.
          </p>
        </Empty>
      )}
      {listing.state === "there" && listing.items.length > 0 && (
        <ul class="rows">
          {listing.items.map((erasure) => (
            <Certificate key={erasure.id} erasure={erasure} />
          ))}
        </ul>
      )}
      <MoreButton listing={listing} />
      <details class="fold">
        <summary>Erase a tenant or a person</summary>
        <ErasureForm operator={operator} onErased={listing.reload} />
      </details>
    </section>
  );
}

function total(rows: Record<string, number>): number {
  return Object.values(rows).reduce((sum, count) => sum + count, 0);
}

function Certificate({ erasure }: { readonly erasure: Erasure }) {
  return (
    <li class="row">
      <div class="row-text">
        <span class="row-name">
          {erasure.scope === "tenant" ? "A tenant" : "A person"}
          {erasure.kept_files && ", whose files stayed"}
        </span>
        <span class="quiet row-facts">
          <bdi dir="auto">{erasure.reason}</bdi>
          <span title={moment(erasure.erased_at)}>
            by <bdi>{erasure.actor}</bdi>, {ago(erasure.erased_at)}
          </span>
          <span>{counted(total(erasure.removed), "row")} removed</span>
          {total(erasure.renamed) > 0 && (
            <span>{counted(total(erasure.renamed), "name")} removed from rows</span>
          )}
          <span>{counted(erasure.objects, "file")} to be deleted</span>
          {erasure.kept.map(({ table, rows, why }) => (
            <span class="refusal" key={`${table} ${why}`}>
              {counted(rows, "row")} of <code>{table}</code> stayed: {WHY[why]}
            </span>
          ))}
          <code>{erasure.id}</code>
        </span>
      </div>
    </li>
  );
}

interface FormProps {
  readonly operator: KeepsakeOperator;
  readonly onErased: () => Promise<void>;
}

function ErasureForm({ operator, onErased }: FormProps) {
  const announce = useAnnounce();
  const form = useRef<HTMLFormElement>(null);
  const [person, setPerson] = useState("");
  /** What is to be confirmed. */
  const [asked, setAsked] = useState<ErasureRequest | null>(null);
  const ask = (event: SubmitEvent) => {
    event.preventDefault();
    if (!form.current) return;
    const given = new FormData(form.current);
    const field = (name: string) => String(given.get(name) ?? "").trim();
    const subject = field("subject");
    setAsked({
      tenant: field("tenant"),
      reason: field("reason"),
      keep_files: given.get("keep_files") !== null,
      ...(subject ? { subject } : {}),
    });
  };
  const erase = async (request: ErasureRequest) => {
    try {
      const erasure = await operator.erasures.erase(request);
      announce({
        text: `Erased: ${counted(total(erasure.removed), "row")}. The certificate is ${erasure.id}.`,
      });
      form.current?.reset();
      setPerson("");
      await onErased();
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setAsked(null);
    }
  };
  return (
    <>
      <form class="fields" ref={form} onSubmit={ask} hidden={asked !== null}>
        <label>
          Tenant
          <input type="text" name="tenant" required maxLength={255} />
        </label>
        <label>
          Person (empty: the whole tenant)
          <input
            type="text"
            name="subject"
            maxLength={255}
            pattern=".*\S.*"
            title="Not only spaces"
            onInput={({ currentTarget }) => setPerson(currentTarget.value.trim())}
          />
        </label>
        {person !== "" && (
          <label>
            <input type="checkbox" name="keep_files" /> Keep the files, without the name
          </label>
        )}
        <label>
          Reason (name nobody in it)
          <input type="text" name="reason" required maxLength={255} placeholder="Ticket 4711" />
        </label>
        <button type="submit" class="button">
          Erase…
        </button>
      </form>
      {asked && (
        <Confirmation request={asked} onConfirm={() => erase(asked)} onCancel={() => setAsked(null)} />
      )}
    </>
  );
}

interface ConfirmationProps {
  readonly request: ErasureRequest;
  readonly onConfirm: () => void;
  readonly onCancel: () => void;
}

function Confirmation({ request, onConfirm, onCancel }: ConfirmationProps) {
  return (
    <fieldset class="fields">
      <legend class="unseen">Confirm the erasure</legend>
      <p>
        {request.subject ? (
          <>
            Everything of the person <bdi dir="auto">{request.subject}</bdi> in the tenant{" "}
            <bdi dir="auto">{request.tenant}</bdi>
          </>
        ) : (
          <>
            Everything of the tenant <bdi dir="auto">{request.tenant}</bdi>
          </>
        )}{" "}
        {request.keep_files
          ? "loses its name now; the files stay. It cannot be undone."
          : "is removed now. It cannot be restored."}
      </p>
      <button type="button" class="button" onClick={onConfirm}>
        Erase now
      </button>
      <button type="button" class="plain" ref={(button) => button?.focus()} onClick={onCancel}>
        Cancel
      </button>
    </fieldset>
  );
}
