// What the schedule did, what failed, and whether bucket and database agree.

import type { KeepsakeOperator, Runs as RunsAnswer } from "keepsake-client";
import { ago, count, moment } from "../format";
import { MoreButton, useListing } from "../parts/listing";
import { Empty, Failure, Loading } from "../parts/states";
import { useResource } from "../resource";

const STEPS: Record<string, string> = {
  sweep: "Closing expired uploads",
  parts: "Aborting parts of closed uploads",
  purge: "Purging expired rows",
  drain: "Deleting objects",
  tidy: "Removing old keys, updating usage",
  audit: "Comparing bucket and database",
  sample: "Taking a sample",
  complete: "Completing uploads near their end",
  deliver: "Delivering events",
};

export function Runs({ operator }: { operator: KeepsakeOperator }) {
  const failures = useResource(
    (signal) => operator.runs({ outcome: "failed", limit: 20 }, { signal }),
    [operator],
  );
  return (
    <>
      <section class="part" aria-labelledby="audit-heading">
        <h2 id="audit-heading">Audit</h2>
        {failures.state === "loading" && <Loading what="the audit" rows={2} />}
        {failures.state === "failed" && <Failure error={failures.error} onRetry={failures.reload} />}
        {failures.state === "there" && <Audit audit={failures.value.audit} operator={operator} />}
      </section>
      <section class="part" aria-labelledby="failures-heading">
        <h2 id="failures-heading">Recent failures</h2>
        {failures.state === "loading" && <Loading what="the failures" rows={2} />}
        {failures.state === "there" && <Failures items={failures.value.items} />}
      </section>
    </>
  );
}

function Audit({ audit, operator }: { audit: RunsAnswer["audit"]; operator: KeepsakeOperator }) {
  const findings = useListing((next) => operator.findings({ limit: 20 }, next), [operator]);
  return (
    <>
      <p class="quiet">
        The bucket is compared with the database page by page. This is pass {count(audit.pass)};{" "}
        {audit.pass_finished_at
          ? `the last one ended ${ago(audit.pass_finished_at)}.`
          : "no pass has ended yet."}
      </p>
      <dl class="figures">
        <div class={audit.orphans > 0 ? "warned" : ""}>
          <dt>Orphans</dt>
          <dd>
            <strong>{count(audit.orphans)}</strong> <span class="quiet">objects that no row names</span>
          </dd>
        </div>
        <div class={audit.missing > 0 ? "bad" : ""}>
          <dt>Missing</dt>
          <dd>
            <strong>{count(audit.missing)}</strong> <span class="quiet">rows without their object</span>
          </dd>
        </div>
      </dl>
      {findings.state === "failed" && <Failure error={findings.error} onRetry={findings.reload} />}
      {findings.state === "there" && findings.items.length > 0 && (
        <ul class="rows">
          {findings.items.map((finding) => (
            <li class="row" key={finding.object_key}>
              <div class="row-text">
                <code class="key">{finding.object_key}</code>
                <span class="quiet row-facts">
                  <span title={moment(finding.first_seen)}>first seen {ago(finding.first_seen)}</span>
                  <span>
                    seen in {count(finding.times)} {finding.times === 1 ? "pass" : "passes"}
                  </span>
                </span>
              </div>
              <span class={`state ${finding.kind === "missing" ? "shut" : "waiting"}`}>
                {finding.kind === "missing" ? "Missing" : "Orphan"}
              </span>
            </li>
          ))}
        </ul>
      )}
      <MoreButton listing={findings} />
    </>
  );
}

function Failures({ items }: { items: RunsAnswer["items"] }) {
  if (items.length === 0) {
    return (
      <Empty title="No failures" level={3}>
        <p>Each step of each scheduled run of the last 30 days went well.</p>
      </Empty>
    );
  }
  return (
    <ul class="rows">
      {items.map((run) => (
        <li class="row" key={`${run.step} ${run.finished_at}`}>
          <div class="row-text">
            <span class="row-name">{STEPS[run.step] ?? run.step}</span>
            <span class="quiet row-facts">
              <time dateTime={run.finished_at} title={moment(run.finished_at)}>
                {ago(run.finished_at)}
              </time>
              <span class="refusal">{run.error ?? inWords(run.counts)}</span>
            </span>
          </div>
        </li>
      ))}
    </ul>
  );
}

/** What a step counted, of which some failed. */
const inWords = (counts: RunsAnswer["items"][number]["counts"]): string =>
  Object.entries(counts ?? {})
    .filter(([, value]) => typeof value === "number")
    .map(([name, value]) => `${name} ${count(Number(value))}`)
    .join(", ");
