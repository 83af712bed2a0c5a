// What was deleted and is not gone yet: one entry for each deletion, however much went with it.

import type { Deletion } from "keepsake-client";
import { useRef } from "preact/hooks";
import { ago, moment } from "../format";
import { called, counts } from "../items";
import { useKeepsake, useMayWrite } from "../keepsake";
import { BinState } from "../parts/file-state";
import { RestoreIcon } from "../parts/icons";
import { MoreButton, useListing } from "../parts/listing";
import { Empty, Failure, Loading } from "../parts/states";
import { useRestore } from "../undo";

export function Bin() {
  const keepsake = useKeepsake();
  const mayWrite = useMayWrite();
  const restore = useRestore();
  const heading = useRef<HTMLHeadingElement>(null);
  const listing = useListing((next) => keepsake.deletions.list({}, next), [keepsake]);
  const bringBack = (deletion: Deletion) =>
    restore(deletion.id, () => {
      listing.drop(({ id }) => id === deletion.id);
      heading.current?.focus();
    });
  return (
    <>
      <div class="view-head">
        <div>
          <h1 ref={heading} tabIndex={-1}>
            Bin
          </h1>
          <p class="quiet">Each entry is one deletion. Restoring it restores exactly what it removed.</p>
        </div>
      </div>
      {listing.state === "loading" && <Loading what="the bin" />}
      {listing.state === "failed" && <Failure error={listing.error} onRetry={listing.reload} />}
      {listing.state === "there" && listing.items.length === 0 && (
        <Empty title="The bin is empty">
          <p>What is deleted waits here for some time, and can be restored until then.</p>
        </Empty>
      )}
      {listing.state === "there" && listing.items.length > 0 && (
        <ul class="rows">
          {listing.items.map((deletion) => (
            <li class="row" key={deletion.id}>
              <div class="row-text">
                <a class="row-name" href={`#/bin/${deletion.id}`}>
                  <bdi dir="auto">{called(deletion.root)}</bdi>
                </a>
                <span class="quiet row-facts">
                  <span>{counts(deletion)}</span>
                  <span>
                    by <bdi>{deletion.actor}</bdi>,{" "}
                    <time dateTime={deletion.deleted_at} title={moment(deletion.deleted_at)}>
                      {ago(deletion.deleted_at)}
                    </time>
                  </span>
                </span>
              </div>
              <BinState daysLeft={deletion.days_left} purgeAfter={deletion.expires_at} held={deletion.held} />
              {mayWrite && (
                <button
                  type="button"
                  class="button second"
                  aria-label={`Restore ${called(deletion.root)}`}
                  onClick={() => bringBack(deletion)}
                >
                  <RestoreIcon />
                  Restore
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      <MoreButton listing={listing} />
    </>
  );
}
