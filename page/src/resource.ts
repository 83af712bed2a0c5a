// Something that is fetched: not yet, there, or failed.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export type Resource<T> =
  | { readonly state: "loading" }
  | { readonly state: "there"; readonly value: T }
  | { readonly state: "failed"; readonly error: unknown };

/** Fetches when `keys` change, and again on `reload`, which keeps what is shown until the new is there. */
export function useResource<T>(
  fetch: (signal: AbortSignal) => Promise<T>,
  keys: readonly unknown[],
): [Resource<T>, () => Promise<void>] {
  const [resource, setResource] = useState<Resource<T>>({ state: "loading" });
  const running = useRef<AbortController | undefined>(undefined);
  const load = useCallback(async () => {
    running.current?.abort();
    const turn = new AbortController();
    running.current = turn;
    try {
      const value = await fetch(turn.signal);
      if (!turn.signal.aborted) setResource({ state: "there", value });
    } catch (error) {
      if (!turn.signal.aborted) setResource({ state: "failed", error });
    }
    // biome-ignore lint/correctness/useExhaustiveDependencies: the caller says what it depends on
  }, keys);
  useEffect(() => {
    setResource({ state: "loading" });
    void load();
    return () => running.current?.abort();
  }, [load]);
  return [resource, load];
}
