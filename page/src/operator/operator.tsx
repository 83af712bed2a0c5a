// What whoever runs it looks at, of all tenants together: how much there is, what waits, what failed.

import { createOperator, type History, type KeepsakeOperator, type PurgePlan } from "keepsake-client";
import { useContext, useMemo, useState } from "preact/hooks";
import { ago, count, counted, moment, size } from "../format";
import { SessionContext } from "../keepsake";
import { Empty, Failure, Loading } from "../parts/states";
import { useResource } from "../resource";
import { Chart, type Series } from "./chart";
import { Choice } from "./choice";
import { Erasures } from "./erasures";
import { Events } from "./events";
import { Holds } from "./holds";
import { Outbox } from "./outbox";
import { Runs } from "./runs";

function useOperator(): KeepsakeOperator {
  const { session, expired } = useContext(SessionContext);
  return useMemo(
    () =>
      createOperator({
        url: location.origin,
        token: () => session.token,
        fetch: async (...request) => {
          const response = await fetch(...request);
          if (response.status === 401) expired();
          return response;
        },
      }),
    [session, expired],
  );
}

export function Operator() {
  const operator = useOperator();
  return (
    <>
      <div class="view-head">
        <div>
          <h1>Operations</h1>
          <p class="quiet">All tenants together: what is stored, what waits, and what went wrong.</p>
        </div>
      </div>
      <Storage operator={operator} />
      <NextPurge operator={operator} />
      <Outbox operator={operator} />
      <Events operator={operator} />
      <Holds operator={operator} />
      <Erasures operator={operator} />
      <Runs operator={operator} />
    </>
  );
}

const HOUR = 3_600_000;
const SPANS = [
  { label: "24 hours", value: 24 * HOUR },
  { label: "7 days", value: 7 * 24 * HOUR },
  { label: "30 days", value: 30 * 24 * HOUR },
  { label: "1 year", value: 365 * 24 * HOUR },
] as const;

function Storage({ operator }: { operator: KeepsakeOperator }) {
  const [span, setSpan] = useState<number>(SPANS[1].value);
  const history = useResource(
    (signal) => operator.history({ from: new Date(Date.now() - span).toISOString() }, { signal }),
    [operator, span],
  );
  return (
    <section class="part" aria-labelledby="storage-heading">
      <div class="part-head">
        <h2 id="storage-heading">Storage and backlog</h2>
        <Choice label="Time" options={SPANS} value={span} onChange={setSpan} />
      </div>
      {history.state === "loading" && <Loading what="the history" rows={5} />}
      {history.state === "failed" && <Failure error={history.error} onRetry={history.reload} />}
      {history.state === "there" && <OverTime history={history.value} />}
    </section>
  );
}

function OverTime({ history: { items } }: { history: History }) {
  const charts = useMemo(() => {
    const times = items.map(({ taken_at }) => taken_at);
    const bytes = (state: string) => items.map((sample) => sample.bytes[state] ?? 0);
    const storage: Series[] = [
      { label: "Available", tone: "first", values: bytes("available") },
      { label: "In the bin", tone: "second", values: bytes("deleted") },
      { label: "Quarantined", tone: "third", values: bytes("quarantined") },
    ];
    const backlog: Series[] = [
      { label: "Expired rows", tone: "first", values: items.map((sample) => sample.expired_rows) },
      { label: "Objects to delete", tone: "second", values: items.map((sample) => sample.outbox_waiting) },
      { label: "Failed", tone: "third", values: items.map((sample) => sample.outbox_dead) },
    ];
    return { times, storage, backlog };
  }, [items]);
  const last = items.at(-1);
  if (!last) {
    return (
      <Empty title="No samples in this period" level={3}>
        <p>Each scheduled run takes a sample. If none comes within minutes, see whether the schedule runs.</p>
      </Empty>
    );
  }
  return (
    <>
      <dl class="figures">
        <Figure
          name="Available"
          value={size(last.bytes.available ?? 0)}
          note={counted(last.files.available ?? 0, "file")}
        />
        <Figure
          name="In the bin"
          value={size(last.bytes.deleted ?? 0)}
          note={counted(last.open_deletions, "deletion")}
        />
        <Figure
          name="Former versions"
          value={size(last.bytes.former ?? 0)}
          note={counted(last.files.former ?? 0, "version")}
        />
        <Figure
          name="Held"
          value={count(last.held_deletions)}
          note={last.held_deletions === 1 ? "deletion" : "deletions"}
        />
        <Figure
          name="To delete"
          value={count(last.outbox_waiting)}
          note={last.outbox_waiting === 1 ? "object" : "objects"}
        />
        <Figure
          name="Failed"
          value={count(last.outbox_dead)}
          note="after 12 attempts"
          isBad={last.outbox_dead > 0}
        />
        <Figure
          name="Failed purges"
          value={count(last.failed_deletions)}
          note="retried hourly"
          isBad={last.failed_deletions > 0}
        />
      </dl>
      <p class="quiet">
        Counted{" "}
        <time dateTime={last.taken_at} title={moment(last.taken_at)}>
          {ago(last.taken_at)}
        </time>
        .
      </p>
      <div class="charts">
        <Chart title="Storage" times={charts.times} series={charts.storage} format={size} />
        <Chart title="Backlog" times={charts.times} series={charts.backlog} format={count} />
      </div>
    </>
  );
}

interface FigureProps {
  readonly name: string;
  readonly value: string;
  readonly note: string;
  readonly isBad?: boolean;
}

function Figure({ name, value, note, isBad = false }: FigureProps) {
  return (
    <div class={isBad ? "bad" : ""}>
      <dt>{name}</dt>
      <dd>
        <strong>{value}</strong> <span class="quiet">{note}</span>
      </dd>
    </div>
  );
}

const WHENS = [
  { label: "Now", value: 0 },
  { label: "In 7 days", value: 7 },
  { label: "In 30 days", value: 30 },
] as const;

const OUTCOMES: Record<PurgePlan["lines"][number]["outcome"], string> = {
  purge: "Would be purged",
  not_expired: "Not expired",
  held: "Held",
  failed_before: "Failed recently",
  referred_to: "Still referenced",
};

function NextPurge({ operator }: { operator: KeepsakeOperator }) {
  const [days, setDays] = useState<number>(0);
  const plan = useResource(
    (signal) =>
      operator.purgePlan(days ? { at: new Date(Date.now() + days * 24 * HOUR).toISOString() } : {}, {
        signal,
      }),
    [operator, days],
  );
  return (
    <section class="part" aria-labelledby="purge-heading">
      <div class="part-head">
        <h2 id="purge-heading">Next purge</h2>
        <Choice label="Dry run" options={WHENS} value={days} onChange={setDays} />
      </div>
      {plan.state === "loading" && <Loading what="the dry run" rows={2} />}
      {plan.state === "failed" && <Failure error={plan.error} onRetry={plan.reload} />}
      {plan.state === "there" && <Plan plan={plan.value} />}
    </section>
  );
}

function Plan({ plan }: { plan: PurgePlan }) {
  const tables = [...new Set(plan.lines.map(({ table }) => table))];
  const outcomes = (Object.keys(OUTCOMES) as (keyof typeof OUTCOMES)[]).filter(
    (outcome) => outcome === "purge" || plan.lines.some((line) => line.outcome === outcome),
  );
  const rows = (table: string, outcome: string) =>
    plan.lines.find((line) => line.table === table && line.outcome === outcome)?.rows ?? 0;
  return (
    <>
      <p class="quiet">
        {plan.due === 0 ? "No deletion is due. " : `Due by then: ${counted(plan.due, "deletion")}. `}
        {plan.next_expiry ? `The next one expires on ${moment(plan.next_expiry)}.` : "No other one expires."}
      </p>
      {tables.length === 0 ? (
        <Empty title="Nothing is in the bin" level={3} />
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard
        <section class="scroll" aria-label="Dry run" tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">Rows of</th>
                {outcomes.map((outcome) => (
                  <th scope="col" class="number" key={outcome}>
                    {OUTCOMES[outcome]}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {tables.map((table) => (
                <tr key={table}>
                  <th scope="row">
                    <code>{table}</code>
                  </th>
                  {outcomes.map((outcome) => (
                    <td class={rows(table, outcome) === 0 ? "number quiet" : "number"} key={outcome}>
                      {count(rows(table, outcome))}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </>
  );
}
