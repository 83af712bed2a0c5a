// One file with its history: to look at, to replace, to go back.

import type { Attachment, Version } from "keepsake-client";
import { useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { ago, moment, size } from "../format";
import { entityAddress, kindOf } from "../items";
import { useKeepsake, useMayWrite } from "../keepsake";
import { DownloadButton } from "../parts/download-button";
import { FileIcon } from "../parts/file-icon";
import { RestoreIcon } from "../parts/icons";
import { MoreButton, useListing } from "../parts/listing";
import { Failure, Loading } from "../parts/states";
import { useResource } from "../resource";
import { ReplacePanel } from "../upload/replace";
import { inOneLine } from "../words";

export function FileView({ params: [id = ""] }: { params: readonly string[] }) {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const mayWrite = useMayWrite();
  const found = useResource((signal) => keepsake.attachments.get(id, { signal }), [keepsake, id]);
  const versions = useListing((next) => keepsake.attachments.versions(id, {}, next), [keepsake, id]);
  const heading = useRef<HTMLHeadingElement>(null);
  const [busy, setBusy] = useState(false);

  if (found.state === "loading") return <Loading what="the file" />;
  if (found.state === "failed") return <Failure level={1} error={found.error} onRetry={found.reload} />;
  const file = found.value;
  const reload = async () => void (await Promise.all([found.reload(), versions.reload()]));

  const restore = async ({ version }: Version) => {
    if (busy) return;
    setBusy(true);
    try {
      const now = await keepsake.attachments.restoreVersion(id, version, { ifVersion: file.version });
      announce({ text: `Version ${version} is current again, as version ${now.version}.` });
      // The button that was pressed is gone.
      heading.current?.focus();
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setBusy(false);
    }
    await reload();
  };
  return (
    <>
      <div class="view-head">
        <div>
          <p class="quiet crumbs">
            File of{" "}
            <a href={entityAddress(file.entity_type, file.entity_id)}>
              {kindOf(file.entity_type)} <bdi>{file.entity_id}</bdi>
            </a>
          </p>
          <h1>
            <bdi dir="auto">{file.name}</bdi>
          </h1>
        </div>
      </div>
      <section aria-labelledby="versions-heading" class="part">
        <h2 id="versions-heading" ref={heading} tabIndex={-1}>
          Versions
        </h2>
        {versions.state === "loading" && <Loading what="its versions" rows={2} />}
        {versions.state === "failed" && <Failure error={versions.error} onRetry={versions.reload} />}
        {versions.state === "there" && (
          <ul class="rows">
            {versions.items.map((version) => (
              <VersionRow key={version.version} file={file} version={version}>
                {mayWrite && !version.current && version.state === "available" && (
                  <button
                    type="button"
                    class="icon"
                    title="Make current again"
                    aria-label={`Restore version ${version.version}`}
                    aria-disabled={busy}
                    onClick={() => restore(version)}
                  >
                    <RestoreIcon />
                  </button>
                )}
              </VersionRow>
            ))}
          </ul>
        )}
        <MoreButton listing={versions} />
      </section>
      {mayWrite && <ReplacePanel file={file} onReplaced={reload} />}
    </>
  );
}

interface RowProps {
  readonly file: Attachment;
  readonly version: Version;
  readonly children: preact.ComponentChildren;
}

function VersionRow({ file, version, children }: RowProps) {
  const { name, size: bytes, created_at, uploaded_by, restored_from } = version;
  return (
    <li class="file">
      <span class="thumbnail">
        <FileIcon mediaType={version.media_type} />
      </span>
      <div class="file-text">
        <p class="file-name">
          Version {version.version}
          {name !== file.name && (
            <>
              {": "}
              <bdi dir="auto">{name}</bdi>
            </>
          )}
        </p>
        <p class="quiet file-facts">
          <span>{size(bytes)}</span>
          <span>
            by <bdi>{uploaded_by}</bdi>,{" "}
            <time dateTime={created_at} title={moment(created_at)}>
              {ago(created_at)}
            </time>
          </span>
          {restored_from !== null && <span>was version {restored_from}</span>}
          {version.current && <span class="state">Current</span>}
          {version.state === "quarantined" && <span class="state shut">Quarantined: malware</span>}
        </p>
      </div>
      <div class="file-acts">
        <DownloadButton attachment={{ ...file, state: version.state }} version={version.version} />
        {children}
      </div>
    </li>
  );
}
