// Where a new version of a file is chosen and sent.

import { type Attachment, loadRules, type UploadProgress, uploadVersion } from "keepsake-client";
import rulesAddress from "keepsake-client/rules.wasm";
import { useEffect, useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { useKeepsake } from "../keepsake";
import { inOneLine } from "../words";

interface Props {
  /** As it is shown: a version that came meanwhile is not put over. */
  readonly file: Attachment;
  readonly onReplaced: () => void;
}

const PHASES = { checking: "Checking", uploading: "Sending", completing: "Completing" } as const;

export function ReplacePanel({ file, onReplaced }: Props) {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const input = useRef<HTMLInputElement>(null);
  const sending = useRef<AbortController>();
  const [progress, setProgress] = useState<UploadProgress>();
  useEffect(() => () => sending.current?.abort(), []);

  const send = async (chosen: File) => {
    const stop = new AbortController();
    sending.current = stop;
    setProgress({ phase: "checking", loaded: 0, total: chosen.size, files: [] });
    try {
      const { state } = await uploadVersion(keepsake, {
        attachment: file,
        file: named(chosen, file.name),
        rules: await loadRules(rulesAddress),
        signal: stop.signal,
        onProgress: setProgress,
      });
      announce({
        text:
          state === "scanning"
            ? "The new version is being scanned for malware, and becomes current when it is found clean."
            : `${file.name} has a new version.`,
      });
    } catch (error) {
      if (!stop.signal.aborted) announce({ kind: "failed", text: inOneLine(error) });
    } finally {
      setProgress(undefined);
    }
    // Also where another version was faster, which is then to be seen.
    if (!stop.signal.aborted) onReplaced();
  };
  return (
    <section aria-labelledby="replace-heading" class="part">
      <h2 id="replace-heading">New version</h2>
      <p class="quiet">It takes the place of the current one, which stays in the list above.</p>
      <input
        ref={input}
        type="file"
        hidden
        onChange={({ currentTarget }) => {
          const chosen = currentTarget.files?.[0];
          // The same file can be chosen again.
          currentTarget.value = "";
          if (chosen) void send(chosen);
        }}
      />
      {progress === undefined ? (
        <div>
          <button type="button" class="button second" onClick={() => input.current?.click()}>
            Choose a file
          </button>
        </div>
      ) : (
        <div class="replacing">
          <label for="replace-progress">{PHASES[progress.phase]}</label>
          <progress id="replace-progress" max={Math.max(1, progress.total)} value={progress.loaded} />
          <button type="button" class="plain" onClick={() => sending.current?.abort()}>
            Cancel
          </button>
        </div>
      )}
    </section>
  );
}

/** Copies and downloads are called `report (2).pdf`: the name stays, unless it is another kind of file. */
function named(chosen: File, name: string): File {
  const kind = (text: string) => text.slice(text.lastIndexOf(".")).toLowerCase();
  return kind(chosen.name) === kind(name) ? new File([chosen], name, { type: chosen.type }) : chosen;
}
