// What stands in the way of a restore: beside what would come back, the live one that has its place;
// and the two ways out.

import type { Conflict, Item } from "keepsake-client";
import type { RefObject } from "preact";
import { useId, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { counted } from "../format";
import { address, called, kindOf } from "../items";
import { useKeepsake } from "../keepsake";
import { inOneLine } from "../words";

interface Props {
  readonly conflicts: readonly Conflict[];
  readonly headingRef: RefObject<HTMLHeadingElement>;
  readonly mayWrite: boolean;
  /** Restores what nothing stands in the way of. */
  readonly onSkip: () => Promise<void>;
  /** Tries again. */
  readonly onRenamed: () => Promise<void>;
}

export function Conflicts({ conflicts, headingRef, mayWrite, onSkip, onRenamed }: Props) {
  return (
    <section class="part conflicts" aria-labelledby="conflicts-heading">
      <h2 id="conflicts-heading" ref={headingRef} tabIndex={-1}>
        {counted(conflicts.length, "conflict")}
      </h2>
      <p>
        Nothing was changed, because existing rows conflict with what would be restored. Give what comes back
        another name, or leave it in the bin and restore the rest.
      </p>
      <ul class="conflict-list">
        {conflicts.map((conflict) => (
          <li class="conflict" key={JSON.stringify([conflict.table, conflict.key, conflict.constraint])}>
            <OneConflict conflict={conflict} mayWrite={mayWrite} onRenamed={onRenamed} />
          </li>
        ))}
      </ul>
      {mayWrite && (
        <button type="button" class="button second" onClick={onSkip}>
          Skip these and restore the rest
        </button>
      )}
    </section>
  );
}

interface OneProps {
  readonly conflict: Conflict;
  readonly mayWrite: boolean;
  readonly onRenamed: () => Promise<void>;
}

function OneConflict({ conflict, mayWrite, onRenamed }: OneProps) {
  const { kind, item, holder_item, detail } = conflict;
  const isTaken = kind === "unique" || kind === "exclusion";
  const hasParent = kind === "parent_deleted" || kind === "parent_missing";
  return (
    <>
      <div class="sides">
        <Side title="In the bin" item={item} fallback={row(conflict.table, conflict.key)} />
        {(isTaken || hasParent) && (
          <Side
            title={
              isTaken
                ? "Has its place now"
                : kind === "parent_deleted"
                  ? "Belongs to, also in the bin"
                  : "Belonged to"
            }
            item={holder_item}
            fallback={row(conflict.holder_table ?? conflict.table, conflict.holder)}
            isLive={isTaken}
          />
        )}
      </div>
      {detail && <p class="quiet">{detail}</p>}
      {mayWrite && isTaken && item && <Rename item={item} onRenamed={onRenamed} />}
    </>
  );
}

interface SideProps {
  readonly title: string;
  readonly item: Item | null | undefined;
  readonly fallback: string;
  readonly isLive?: boolean;
}

function Side({ title, item, fallback, isLive = false }: SideProps) {
  return (
    <div class={`side ${isLive ? "live" : ""}`}>
      <h3>{title}</h3>
      {item ? (
        <p>
          <span class="state">{item.kind === "attachment" ? "File" : kindOf(item.entity_type)}</span>{" "}
          {isLive ? (
            <a href={address(item)}>
              <bdi dir="auto">{called(item)}</bdi>
            </a>
          ) : (
            <bdi dir="auto">{called(item)}</bdi>
          )}
        </p>
      ) : (
        <p class="quiet">{fallback}</p>
      )}
    </div>
  );
}

/** A row that has no name for people, or none for this one. */
function row(table: string, key: Conflict["key"] | undefined): string {
  const values = Object.values(key ?? {}).map(String);
  return values.length > 0 ? `${table} ${values.join(", ")}` : `A row of ${table}`;
}

function Rename({ item, onRenamed }: { item: Item; onRenamed: () => Promise<void> }) {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const id = useId();
  const [name, setName] = useState(() => suggestion(item));
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    try {
      if (item.kind === "attachment") await keepsake.attachments.rename(item.id, name);
      else await keepsake.entities.rename({ type: item.entity_type, id: item.id }, name);
      await onRenamed();
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="rename" onSubmit={submit}>
      <label for={id}>Restore it as</label>
      <input
        id={id}
        type="text"
        dir="auto"
        required
        maxLength={255}
        value={name}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      <button type="submit" class="button" aria-disabled={busy}>
        Rename and restore
      </button>
    </form>
  );
}

/** The old name with a mark before its extension. */
function suggestion({ kind, label }: Item): string {
  const old = label ?? "";
  const dot = kind === "attachment" ? old.lastIndexOf(".") : -1;
  return dot > 0 ? `${old.slice(0, dot)} (restored)${old.slice(dot)}` : `${old} (restored)`;
}
