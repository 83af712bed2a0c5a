// Everything the tenant has, to be found again by a word of its name.

import { useEffect, useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { type Attachment, useKeepsake } from "../keepsake";
import { AttachmentRow } from "../parts/attachment-row";
import { DownloadButton } from "../parts/download-button";
import { Empty, Failure, Loading } from "../parts/states";
import { useResource } from "../resource";
import { inOneLine } from "../words";

/** The pause in typing after which a word is looked for. */
const TYPING_MS = 250;

export function Files() {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const [words, setWords] = useState("");
  const [wanted, setWanted] = useState("");
  const timer = useRef<number | undefined>(undefined);
  const [found, reload] = useResource(
    (signal) => keepsake.attachments(query(wanted), signal),
    [keepsake, wanted],
  );
  const [more, setMore] = useState<{ items: readonly Attachment[]; cursor: string | null }>();
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new search begins anew
  useEffect(() => setMore(undefined), [wanted]);

  const type = (event: { currentTarget: HTMLInputElement }) => {
    const { value } = event.currentTarget;
    setWords(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setWanted(value.trim()), TYPING_MS);
  };
  const next = async (cursor: string) => {
    try {
      const page = await keepsake.attachments(query(wanted, cursor), new AbortController().signal);
      setMore((before) => ({ items: [...(before?.items ?? []), ...page.items], cursor: page.next_cursor }));
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    }
  };

  const cursor = more ? more.cursor : found.state === "there" ? found.value.next_cursor : null;
  return (
    <>
      <div class="view-head">
        <div>
          <h1>Files</h1>
          <p class="quiet">Everything that is attached to anything of yours.</p>
        </div>
        <search class="search">
          <label class="unseen" for="search">
            Search by name
          </label>
          <input
            id="search"
            type="search"
            placeholder="Search by name"
            value={words}
            onInput={type}
            dir="auto"
          />
        </search>
      </div>
      {found.state === "loading" && <Loading what="the files" />}
      {found.state === "failed" && <Failure error={found.error} onRetry={reload} />}
      {found.state === "there" && found.value.items.length === 0 && <NoFiles wanted={wanted} />}
      {found.state === "there" && found.value.items.length > 0 && (
        <ul class="files">
          {[...found.value.items, ...(more?.items ?? [])].map((attachment) => (
            <AttachmentRow key={attachment.content_url} attachment={attachment}>
              <DownloadButton attachment={attachment} />
            </AttachmentRow>
          ))}
        </ul>
      )}
      {cursor !== null && (
        <p class="more">
          <button type="button" class="button second" onClick={() => next(cursor)}>
            Show more
          </button>
        </p>
      )}
    </>
  );
}

function query(words: string, cursor?: string): URLSearchParams {
  const query = new URLSearchParams();
  if (words) query.set("q", words);
  if (cursor !== undefined) query.set("cursor", cursor);
  return query;
}

function NoFiles({ wanted }: { wanted: string }) {
  if (wanted) {
    return (
      <Empty title="No file of that name">
        <p>
          Nothing matches <q dir="auto">{wanted}</q>. Each word has to begin a word of the name; what is in
          the bin is not looked through.
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
