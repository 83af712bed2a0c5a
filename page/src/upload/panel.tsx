// Where files are added. Uppy is loaded only here.

import type { EntityRef } from "keepsake-client";
import { useEffect, useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { useKeepsake, useSession } from "../keepsake";
import { Failure } from "../parts/states";
import type { Trouble } from "./uploader";

interface Props {
  readonly entity: EntityRef;
  readonly onUploaded: () => void;
}

export function UploadPanel({ entity: { type, id }, onUploaded }: Props) {
  const keepsake = useKeepsake();
  const session = useSession();
  const announce = useAnnounce();
  const place = useRef<HTMLDivElement>(null);
  const [trouble, setTrouble] = useState<Trouble | undefined>();
  const [failed, setFailed] = useState<unknown>();
  const [attempt, setAttempt] = useState(0);

  // biome-ignore lint/correctness/useExhaustiveDependencies: an attempt is one more reason
  useEffect(() => {
    let close: (() => void) | undefined;
    let isGone = false;
    const open = async () => {
      setFailed(undefined);
      try {
        const { createUploader } = await import("./uploader");
        const target = place.current;
        if (isGone || !target) return;
        close = await createUploader({
          keepsake,
          session,
          entity: { type, id },
          target,
          onTrouble: setTrouble,
          onDone: (text, isNew) => {
            announce({ text });
            if (isNew) onUploaded();
          },
        });
        if (isGone) close();
      } catch (error) {
        if (!isGone) setFailed(error);
      }
    };
    void open();
    return () => {
      isGone = true;
      close?.();
    };
  }, [keepsake, session, type, id, announce, onUploaded, attempt]);

  return (
    <section class="part" aria-labelledby="add-heading">
      <h2 id="add-heading">Add files</h2>
      <p class="quiet">What you add together appears together: all of it, or nothing.</p>
      <div role="alert">
        {trouble && (
          <div class="trouble">
            <p>{trouble.summary}</p>
            {trouble.files.length > 0 && (
              <ul>
                {trouble.files.map(({ name, detail }) => (
                  <li key={name + detail}>
                    <bdi dir="auto">{name}</bdi>: {detail}
                  </li>
                ))}
              </ul>
            )}
          </div>
        )}
      </div>
      {failed !== undefined && <Failure error={failed} onRetry={() => setAttempt(attempt + 1)} />}
      <div class="dashboard" ref={place} />
    </section>
  );
}
