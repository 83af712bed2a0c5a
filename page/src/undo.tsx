// Deleting at once, and taking it back at once.

import type { Deleted } from "keepsake-client";
import { useAnnounce } from "./announce";
import { rows } from "./items";
import { isConflict, useKeepsake } from "./keepsake";
import { inOneLine } from "./words";

/** Restores a deletion and tells how it went; a conflict leads to where it can be resolved. */
export function useRestore(): (deletionId: string, onRestored: () => void) => Promise<void> {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  return async (deletionId, onRestored) => {
    try {
      const { restored } = await keepsake.deletions.restore(deletionId);
      announce({
        text: restored.length > 0 ? `Restored: ${rows(restored)}.` : "It was already restored.",
      });
      onRestored();
    } catch (error) {
      if (isConflict(error)) {
        announce({ text: "The restore has conflicts. Nothing was changed." });
        location.hash = `#/bin/${deletionId}`;
      } else announce({ kind: "failed", text: inOneLine(error) });
    }
  };
}

interface Deleting {
  readonly what: string;
  readonly act: () => Promise<Deleted>;
  /** What is to be done once it is deleted, and once it is back. */
  readonly onDeleted: () => void;
  readonly onRestored: () => void;
}

/** Deletes without asking, as it can be undone; the notice says how. */
export function useDelete(): (deleting: Deleting) => Promise<void> {
  const announce = useAnnounce();
  const restore = useRestore();
  return async ({ what, act, onDeleted, onRestored }) => {
    try {
      const { deletionId } = await act();
      announce({
        text: `${what} is in the bin.`,
        action: { label: "Undo", run: () => void restore(deletionId, onRestored) },
      });
      onDeleted();
    } catch (error) {
      announce({ kind: "failed", text: inOneLine(error) });
    }
  };
}
