// Everything the tenant has, to be found again by a word of its name.

import { useState } from "preact/hooks";
import { entityAddress } from "../items";
import { useKeepsake } from "../keepsake";
import { AttachmentRow } from "../parts/attachment-row";
import { DownloadButton } from "../parts/download-button";
import { MoreButton, useListing } from "../parts/listing";
import { SearchField } from "../parts/search-field";
import { Empty, Failure, Loading } from "../parts/states";
import { VersionsLink } from "../parts/versions-link";

export function Files() {
  const keepsake = useKeepsake();
  const [wanted, setWanted] = useState("");
  const listing = useListing(
    (next) => keepsake.attachments.list(wanted ? { q: wanted } : {}, next),
    [keepsake, wanted],
  );
  return (
    <>
      <div class="view-head">
        <div>
          <h1>Files</h1>
          <p class="quiet">Everything that is attached to anything of yours.</p>
        </div>
        <SearchField what="files" onSearch={setWanted} />
      </div>
      {listing.state === "loading" && <Loading what="the files" />}
      {listing.state === "failed" && <Failure error={listing.error} onRetry={listing.reload} />}
      {listing.state === "there" && listing.items.length === 0 && <None wanted={wanted} />}
      {listing.state === "there" && listing.items.length > 0 && (
        <ul class="rows">
          {listing.items.map((attachment) => (
            <AttachmentRow key={attachment.content_url} attachment={attachment}>
              <a class="plain" href={entityAddress(attachment.entity_type, attachment.entity_id)}>
                Open {attachment.entity_type}
                <span class="unseen"> of {attachment.name}</span>
              </a>
              <VersionsLink attachment={attachment} />
              <DownloadButton attachment={attachment} />
            </AttachmentRow>
          ))}
        </ul>
      )}
      <MoreButton listing={listing} />
    </>
  );
}

function None({ wanted }: { wanted: string }) {
  if (wanted) {
    return (
      <Empty title="No file of that name">
        <p>
          Nothing matches <q dir="auto">{wanted}</q>. Each word must begin a word of the name; files in the{" "}
          <a href="#/bin">bin</a> are not searched.
        </p>
      </Empty>
    );
  }
  return (
    <Empty title="No files yet">
      <p>What you attach to a post shows up here.</p>
    </Empty>
  );
}
