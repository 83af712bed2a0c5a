// One entity of the application with its files: to look at, to add to, to delete.

import type { Attachment, LegacyItem } from "keepsake-client";
import { useCallback, useRef } from "preact/hooks";
import { called, entityAddress, kindOf } from "../items";
import { useKeepsake, useMayWrite } from "../keepsake";
import { AttachmentRow } from "../parts/attachment-row";
import { DownloadButton } from "../parts/download-button";
import { BinIcon } from "../parts/icons";
import { MoreButton, useListing } from "../parts/listing";
import { Empty, Failure, Loading } from "../parts/states";
import { VersionsLink } from "../parts/versions-link";
import { useResource } from "../resource";
import { useVerdicts } from "../scanning";
import { useDelete } from "../undo";
import { UploadPanel } from "../upload/panel";

export function EntityView({ params: [type = "", id = ""] }: { params: readonly string[] }) {
  const keepsake = useKeepsake();
  const mayWrite = useMayWrite();
  const entity = useResource(
    (signal) => keepsake.entities.get({ type, id }, { signal }),
    [keepsake, type, id],
  );
  const files = useListing(
    (next) => keepsake.entities.attachments({ type, id }, { ...next, state: "live" }),
    [keepsake, type, id],
  );
  useVerdicts({ type, id }, files);
  const heading = useRef<HTMLHeadingElement>(null);
  const deleteIt = useDelete();
  const { reload } = files;
  const onUploaded = useCallback(() => void reload(), [reload]);

  if (entity.state === "loading") return <Loading what={`the ${type}`} />;
  if (entity.state === "failed") return <Failure level={1} error={entity.error} onRetry={entity.reload} />;
  const name = called(entity.value);
  const deleteEntity = () =>
    deleteIt({
      what: `${name}, with everything that belongs to it,`,
      act: () => keepsake.entities.delete({ type, id }),
      onDeleted: () => {
        location.hash = `#/entities/${type}`;
      },
      onRestored: () => {
        location.hash = entityAddress(type, id);
      },
    });
  const deleteFile = (file: Attachment) =>
    deleteIt({
      what: file.name,
      act: () => keepsake.attachments.delete(file.id),
      onDeleted: () => {
        files.drop((item) => item.id === file.id);
        // The button that was pressed is gone.
        heading.current?.focus();
      },
      onRestored: onUploaded,
    });
  return (
    <>
      <div class="view-head">
        <div>
          <p class="quiet crumbs">
            {kindOf(type)}
            {entity.value.parent && (
              <>
                {" in "}
                <a href={entityAddress(entity.value.parent.entity_type, entity.value.parent.id)}>
                  <bdi dir="auto">{called(entity.value.parent)}</bdi>
                </a>
              </>
            )}
          </p>
          <h1>
            <bdi dir="auto">{name}</bdi>
          </h1>
        </div>
        {mayWrite && (
          <button type="button" class="plain risky" onClick={deleteEntity}>
            <BinIcon />
            Delete {type}
          </button>
        )}
      </div>
      <section aria-labelledby="files-heading" class="part">
        <h2 id="files-heading" ref={heading} tabIndex={-1}>
          Files
        </h2>
        {files.state === "loading" && <Loading what="its files" rows={2} />}
        {files.state === "failed" && <Failure error={files.error} onRetry={files.reload} />}
        {files.state === "there" && files.items.length === 0 && (
          <Empty title="No files yet" level={3}>
            <p>{mayWrite ? "Add the first below." : "Your token allows reading only."}</p>
          </Empty>
        )}
        {files.state === "there" && files.items.length > 0 && (
          <ul class="rows">
            {files.items.map((file) => (
              <AttachmentRow key={file.content_url} attachment={file}>
                <VersionsLink attachment={file} />
                <DownloadButton attachment={file} />
                {mayWrite && isDeletable(file) && (
                  <button
                    type="button"
                    class="icon"
                    title="Delete"
                    aria-label={`Delete ${file.name}`}
                    onClick={() => deleteFile(file)}
                  >
                    <BinIcon />
                  </button>
                )}
              </AttachmentRow>
            ))}
          </ul>
        )}
        <MoreButton listing={files} />
      </section>
      {mayWrite && <UploadPanel entity={{ type, id }} onUploaded={onUploaded} />}
    </>
  );
}

/** Not one from before Keepsake, nor one whose set is not whole yet. */
const isDeletable = (file: Attachment | LegacyItem): file is Attachment =>
  file.id !== null && file.state !== "scanning";
