// One deletion: what it took with it, and what stands in the way of its restore.

import type { Conflict, DeletionDetails } from "keepsake-client";
import { useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { ago, moment, size } from "../format";
import { address, called, counts, kindOf, rows } from "../items";
import { isConflict, isMissing, isPurged, useKeepsake, useMayWrite } from "../keepsake";
import { Conflicts } from "../parts/conflicts";
import { FileIcon } from "../parts/file-icon";
import { BinState } from "../parts/file-state";
import { RestoreIcon } from "../parts/icons";
import { Empty, Failure, Loading } from "../parts/states";
import { useResource } from "../resource";
import { inOneLine } from "../words";

type Node = DeletionDetails["tree"][number];

export function DeletionView({ params: [id = ""] }: { params: readonly string[] }) {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const mayWrite = useMayWrite();
  const found = useResource((signal) => keepsake.deletions.get(id, { signal }), [keepsake, id]);
  /** What the last attempt met, which may be newer than what was fetched. */
  const [met, setMet] = useState<readonly Conflict[]>();
  const [busy, setBusy] = useState(false);
  const conflictsHeading = useRef<HTMLHeadingElement>(null);

  if (found.state === "loading") return <Loading what="the deletion" />;
  if (found.state === "failed" && isPurged(found.error)) {
    return (
      <Empty title="Permanently deleted" level={1}>
        <p>
          Its time in the <a href="#/bin">bin</a> is over, so it was purged, with the bytes of its files. It
          cannot be restored.
        </p>
      </Empty>
    );
  }
  if (found.state === "failed" && isMissing(found.error)) {
    return (
      <Empty title="There is no such deletion" level={1}>
        <p>
          It does not exist, you may not see it, or everything in it was restored. What can be restored is in
          the <a href="#/bin">bin</a>.
        </p>
      </Empty>
    );
  }
  if (found.state === "failed") return <Failure level={1} error={found.error} onRetry={found.reload} />;
  const deletion = found.value;
  const { root } = deletion;

  const restore = async (onConflict: "fail" | "skip") => {
    if (busy) return;
    setBusy(true);
    try {
      const { restored, skipped = [] } = await keepsake.deletions.restore(id, { on_conflict: onConflict });
      const left = skipped.length > 0 ? ` Still in the bin: ${rows(skipped)}.` : "";
      if (restored.length > 0) announce({ text: `Restored: ${rows(restored)}.${left}` });
      else announce({ text: `Nothing was restored.${left}` });
      if (skipped.length > 0) {
        setMet(undefined);
        await found.reload();
      } else {
        location.hash = root.id === null ? "#/bin" : address(root);
      }
    } catch (error) {
      if (isConflict(error)) {
        setMet(error.conflicts);
        // Once they are shown.
        setTimeout(() => conflictsHeading.current?.focus());
      } else announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setBusy(false);
    }
  };
  const conflicts = met ?? deletion.conflicts;
  return (
    <>
      <div class="view-head">
        <div>
          <p class="quiet crumbs">
            <a href="#/bin">Bin</a>
          </p>
          <h1>
            <bdi dir="auto">{called(root)}</bdi>
          </h1>
          <p class="quiet row-facts">
            <span>
              Deleted by <bdi>{deletion.actor}</bdi>,{" "}
              <time dateTime={deletion.deleted_at} title={moment(deletion.deleted_at)}>
                {ago(deletion.deleted_at)}
              </time>
            </span>
            {deletion.reason && (
              <span>
                because: <bdi dir="auto">{deletion.reason}</bdi>
              </span>
            )}
            {deletion.state === "deleted" && (
              <BinState daysLeft={deletion.days_left} purgeAfter={deletion.expires_at} held={deletion.held} />
            )}
          </p>
          {deletion.held && (
            <p class="quiet">
              A legal hold keeps it here, however long: it can be restored, but not purged, until an operator
              releases it.
            </p>
          )}
        </div>
        {mayWrite && deletion.state === "deleted" && (
          <button type="button" class="button" aria-disabled={busy} onClick={() => restore("fail")}>
            <RestoreIcon />
            Restore everything
          </button>
        )}
      </div>
      {conflicts.length > 0 && (
        <Conflicts
          conflicts={conflicts}
          headingRef={conflictsHeading}
          onSkip={() => restore("skip")}
          onRenamed={() => restore("fail")}
          mayWrite={mayWrite}
        />
      )}
      <section class="part" aria-labelledby="taken-heading">
        <h2 id="taken-heading">What went with it</h2>
        <p class="quiet">{counts(deletion)}</p>
        {deletion.tree.length === 0 ? (
          <Empty title="Nothing left to restore" level={3}>
            <p>It was restored, or what it held is gone for good.</p>
          </Empty>
        ) : (
          <Branch nodes={deletion.tree} />
        )}
        {!deletion.conflicts_checked && met === undefined && (
          <p class="quiet">
            It is so large that conflicts are searched for only when you restore it. If something does, you
            see it here, and nothing has changed.
          </p>
        )}
        {deletion.truncated && (
          <p class="quiet">There is more than can be shown here; it all comes back together.</p>
        )}
      </section>
    </>
  );
}

/** Nested lists, which every reader can walk; what has something below it can be folded. */
function Branch({ nodes }: { nodes: readonly Node[] }) {
  return (
    <ul class="tree">
      {nodes.map((node) => (
        <li key={`${node.kind} ${node.entity_type} ${node.id}`}>
          {node.children.length === 0 ? (
            <Leaf node={node} />
          ) : (
            <details open>
              <summary>
                <Leaf node={node} />
              </summary>
              <Branch nodes={node.children} />
            </details>
          )}
        </li>
      ))}
    </ul>
  );
}

function Leaf({ node }: { node: Node }) {
  return (
    <span class="leaf">
      {node.kind === "attachment" ? (
        <FileIcon mediaType={node.media_type} />
      ) : (
        <span class="state">{kindOf(node.entity_type)}</span>
      )}
      <bdi dir="auto">{called(node)}</bdi>
      {node.size !== undefined && <span class="quiet">{size(node.size)}</span>}
    </span>
  );
}
