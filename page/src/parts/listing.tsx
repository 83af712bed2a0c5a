// A listing that comes page by page.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { useAnnounce } from "../announce";
import { inOneLine } from "../words";

interface Next {
  readonly cursor?: string;
  readonly signal: AbortSignal;
}

interface PageOf<T> {
  readonly items: readonly T[];
  readonly next_cursor: string | null;
}

export type Listing<T> = (
  | { readonly state: "loading" }
  | { readonly state: "there"; readonly items: readonly T[]; readonly cursor: string | null }
  | { readonly state: "failed"; readonly error: unknown }
) & {
  /** Fetches anew as much as there is, one page at least, and shows what there was until it is there. */
  readonly reload: () => Promise<void>;
  /** Fetches the next page. */
  readonly more: () => Promise<void>;
  /** Takes entries out that are known to be gone. */
  readonly drop: (isGone: (item: T) => boolean) => void;
};

type Held<T> =
  | { state: "loading" }
  | { state: "there"; items: readonly T[]; cursor: string | null }
  | { state: "failed"; error: unknown };

/** Fetches when `keys` change, and shows what there was until it is there. */
export function useListing<T>(
  fetch: (next: Next) => Promise<PageOf<T>>,
  keys: readonly unknown[],
): Listing<T> {
  const [held, setHeld] = useState<Held<T>>({ state: "loading" });
  const running = useRef(new AbortController());
  const shown = useRef(0);
  shown.current = held.state === "there" ? held.items.length : 0;
  const announce = useAnnounce();
  const reload = useCallback(async () => {
    running.current.abort();
    running.current = new AbortController();
    const { signal } = running.current;
    try {
      let { items, next_cursor: cursor } = await fetch({ signal });
      // A search may answer with an empty page and still go on.
      while (cursor !== null && (items.length === 0 || items.length < shown.current)) {
        const page: PageOf<T> = await fetch({ cursor, signal });
        items = [...items, ...page.items];
        cursor = page.next_cursor;
      }
      if (!signal.aborted) setHeld({ state: "there", items, cursor });
    } catch (error) {
      if (!signal.aborted) setHeld({ state: "failed", error });
    }
    // biome-ignore lint/correctness/useExhaustiveDependencies: the caller says what it depends on
  }, keys);
  useEffect(() => {
    shown.current = 0;
    setHeld((now) => (now.state === "there" ? now : { state: "loading" }));
    void reload();
    return () => running.current.abort();
  }, [reload]);
  const more = async () => {
    if (held.state !== "there" || held.cursor === null) return;
    const { signal } = running.current;
    try {
      const page = await fetch({ cursor: held.cursor, signal });
      if (!signal.aborted) {
        setHeld({ state: "there", items: [...held.items, ...page.items], cursor: page.next_cursor });
      }
    } catch (error) {
      if (!signal.aborted) announce({ kind: "failed", text: inOneLine(error) });
    }
  };
  const drop = (isGone: (item: T) => boolean) =>
    setHeld((now) =>
      now.state === "there" ? { ...now, items: now.items.filter((item) => !isGone(item)) } : now,
    );
  return { ...held, reload, more, drop };
}

export function MoreButton<T>({ listing }: { listing: Listing<T> }) {
  const [busy, setBusy] = useState(false);
  if (listing.state !== "there" || listing.cursor === null) return null;
  const more = async () => {
    if (busy) return;
    setBusy(true);
    await listing.more();
    setBusy(false);
  };
  return (
    <p class="more">
      <button type="button" class="button second" aria-disabled={busy} onClick={more}>
        Show more
      </button>
    </p>
  );
}
