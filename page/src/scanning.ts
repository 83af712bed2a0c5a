// Files that are being scanned: asked for again until each has its verdict, which is then told.

import type { Attachment, EntityRef, LegacyItem } from "keepsake-client";
import { useEffect, useRef } from "preact/hooks";
import { type Notice, useAnnounce } from "./announce";
import { counted, list } from "./format";
import { useKeepsake } from "./keepsake";
import type { Listing } from "./parts/listing";

/** Scanners take seconds, or minutes: asked often at first, then less and less so. */
const FIRST_MS = 2_000;
const LAST_MS = 15_000;
const GROWTH = 1.3;

type Files = readonly (Attachment | LegacyItem)[];

/** Reloads a listing of an entity's files when one that it shows as scanning no longer is. */
export function useVerdicts({ type, id }: EntityRef, listing: Listing<Attachment | LegacyItem>): void {
  const keepsake = useKeepsake();
  const announce = useAnnounce();
  const { items, cursor } = listing.state === "there" ? listing : { items: undefined, cursor: null };
  const { reload } = listing;
  const waiting = items?.flatMap((file) => (file.id !== null && file.state === "scanning" ? file.id : []));
  const asked = waiting?.join();

  const before = useRef<Files>([]);
  useEffect(() => {
    if (!items) return;
    const notice = told(before.current, items, cursor === null);
    before.current = items;
    if (notice) announce(notice);
  }, [items, cursor, announce]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the ids in one text say when it is another wait
  useEffect(() => {
    if (!waiting?.length) return;
    const turn = new AbortController();
    let timer = 0;
    const wait = (pause: number) => {
      clearTimeout(timer);
      timer = setTimeout(() => void ask(pause), pause);
    };
    const ask = async (pause: number) => {
      // Nobody looks: asked again as soon as somebody does.
      if (document.hidden) return;
      try {
        const options = { state: "scanning", limit: 200, signal: turn.signal } as const;
        const { items } = await keepsake.entities.attachments({ type, id }, options);
        const still = new Set(items.map((file) => file.id));
        if (!waiting.every((one) => still.has(one))) await reload();
      } catch {
        // What fails is asked again.
      }
      if (!turn.signal.aborted) wait(Math.min(pause * GROWTH, LAST_MS));
    };
    const look = () => {
      clearTimeout(timer);
      if (!document.hidden) void ask(FIRST_MS);
    };
    wait(FIRST_MS);
    document.addEventListener("visibilitychange", look);
    return () => {
      turn.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [keepsake, type, id, asked, reload]);
}

/** What became of files that were scanning, in words; nothing if they still are. */
function told(before: Files, now: Files, isAll: boolean): Notice | undefined {
  const stateOf = new Map(now.map((file) => [file.id, file.state]));
  // Newest first, and ids are in the order of time: behind the last one nothing is known.
  const last = isAll ? "" : (now.at(-1)?.id ?? "");
  const waited = before.filter(({ id, state }) => state === "scanning" && (id ?? "") >= last);
  const named = (state: string | undefined) =>
    waited.filter(({ id }) => stateOf.get(id) === state).map(({ name }) => name);
  const [opened, refused, gone] = [named("available"), named("quarantined"), named(undefined)];
  if (refused.length > 0) {
    const rest = gone.length > 0 ? ` Therefore ${list(gone)}, uploaded with it, was not added either.` : "";
    return { kind: "failed", text: `Malware was found in ${list(refused)}.${rest}` };
  }
  if (gone.length > 0) {
    const why =
      "A file of that name was added in the meantime, or another file of the same upload was rejected.";
    return { kind: "failed", text: `${list(gone)} could not be added. ${why}` };
  }
  if (opened.length === 0) return undefined;
  const [one] = opened;
  return {
    text: `${opened.length === 1 ? `${one} was` : `All ${counted(opened.length, "file")} were`} found clean and can be downloaded.`,
  };
}
