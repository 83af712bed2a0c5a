"use client";

import {
  createKeepsake,
  type Keepsake,
  KeepsakeError,
  type Page,
  type UploadProgress,
  uploadFiles,
} from "keepsake-client";
import { useRouter } from "next/navigation";
import { type ChangeEvent, useState, useTransition } from "react";
import { deleteAttachment, restoreAttachment } from "./actions";

interface Props {
  post: string;
  items: Page["items"];
  deleted: Page["items"];
  /** The URL of Keepsake, for a page that calls it directly. */
  keepsakeUrl?: string;
}

export function Attachments({ post, items, deleted, keepsakeUrl }: Props) {
  const router = useRouter();
  const [progress, setProgress] = useState<UploadProgress>();
  const [message, setMessage] = useState<string>();
  const [busy, startTransition] = useTransition();

  async function upload({ target }: ChangeEvent<HTMLInputElement>) {
    const files = [...(target.files ?? [])];
    target.value = "";
    setMessage(undefined);
    try {
      const keepsake = keepsakeUrl === undefined ? throughServer() : direct(keepsakeUrl);
      await uploadFiles(keepsake, { entity: { type: "post", id: post }, files, onProgress: setProgress });
    } catch (error) {
      if (!(error instanceof KeepsakeError)) throw error;
      setMessage(`${error.title}. ${error.detail}`);
    }
    setProgress(undefined);
    router.refresh();
  }

  const act = (action: typeof deleteAttachment, id: string) =>
    startTransition(async () => setMessage(await action(post, id)));

  return (
    <main>
      <label>
        Files <input type="file" multiple onChange={upload} disabled={progress !== undefined} />
      </label>
      {progress && <progress value={progress.loaded} max={progress.total} />}
      <ul aria-label="Attachments">
        {items.map((item) => (
          <li key={item.id ?? item.name}>
            {item.id === null ? (
              <a href={item.content_url}>{item.name}</a>
            ) : (
              <>
                <a href={`/files/${item.id}`}>{item.name}</a>{" "}
                <button type="button" disabled={busy} onClick={() => act(deleteAttachment, item.id)}>
                  Delete {item.name}
                </button>
              </>
            )}
          </li>
        ))}
      </ul>
      <ul aria-label="Deleted">
        {deleted.map(
          (item) =>
            item.id !== null && (
              <li key={item.id}>
                {item.name}, {item.days_left} days left{" "}
                <button type="button" disabled={busy} onClick={() => act(restoreAttachment, item.id)}>
                  Restore {item.name}
                </button>
              </li>
            ),
        )}
      </ul>
      <p role="status">{message}</p>
    </main>
  );
}

/** The page calls Keepsake directly, with tokens that our server creates. */
function direct(url: string): Keepsake {
  const token = async () => {
    const answer = await fetch("/api/keepsake-token", { method: "POST" });
    if (!answer.ok) throw new Error("Sign in again.");
    return answer.text();
  };
  return createKeepsake({ url, token });
}

/** Our server forwards the requests and adds the token. */
function throughServer(): Keepsake {
  return createKeepsake({ url: `${location.origin}/api/keepsake` });
}
