// The application's entities of one type, each with the size of its attachments.

import { useState } from "preact/hooks";
import { counted, size } from "../format";
import { called, entityAddress, kindOf } from "../items";
import { useKeepsake } from "../keepsake";
import { MoreButton, useListing } from "../parts/listing";
import { SearchField } from "../parts/search-field";
import { Empty, Failure, Loading } from "../parts/states";
import { StoryFold } from "../parts/story";

export function Entities({ params: [type = "post"] }: { params: readonly string[] }) {
  const keepsake = useKeepsake();
  const [wanted, setWanted] = useState("");
  const listing = useListing(
    (next) => keepsake.entities.list(type, wanted ? { q: wanted } : {}, next),
    [keepsake, type, wanted],
  );
  return (
    <>
      <div class="view-head">
        <div>
          <h1>{kindOf(type)}s</h1>
          <p class="quiet">Open one to see its files, add some, or delete it with all that hangs on it.</p>
        </div>
        <SearchField what={`${type}s`} onSearch={setWanted} />
      </div>
      {type === "post" && <StoryFold />}
      {listing.state === "loading" && <Loading what={`the ${type}s`} />}
      {listing.state === "failed" && <Failure error={listing.error} onRetry={listing.reload} />}
      {listing.state === "there" && listing.items.length === 0 && <None type={type} wanted={wanted} />}
      {listing.state === "there" && listing.items.length > 0 && (
        <ul class="rows">
          {listing.items.map((entity) => (
            <li key={entity.id}>
              <a class="row" href={entityAddress(entity.entity_type, entity.id)}>
                <span class="row-text">
                  <bdi dir="auto" class="row-name">
                    {called(entity)}
                  </bdi>
                  {entity.parent && (
                    <span class="quiet">
                      in <bdi dir="auto">{called(entity.parent)}</bdi>
                    </span>
                  )}
                </span>
                <span class="quiet row-facts">
                  {entity.attachments.count === 0
                    ? "No files"
                    : `${counted(entity.attachments.count, "file")}, ${size(entity.attachments.bytes)}`}
                </span>
              </a>
            </li>
          ))}
        </ul>
      )}
      <MoreButton listing={listing} />
    </>
  );
}

function None({ type, wanted }: { type: string; wanted: string }) {
  if (wanted) {
    return (
      <Empty title={`No ${type} of that name`}>
        <p>
          Nothing live matches <q dir="auto">{wanted}</q>.
        </p>
      </Empty>
    );
  }
  return (
    <Empty title={`No ${type}s yet`}>
      <p>
        Every {type} of your application appears here. Deleted ones are in the <a href="#/bin">bin</a>.
      </p>
    </Empty>
  );
}
