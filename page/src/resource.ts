// A resource that is fetched: loading, there, or failed.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";

type Held<T> =
  | { readonly state: "loading" }
  | { readonly state: "there"; readonly value: T }
  | { readonly state: "failed"; readonly error: unknown };

export type Resource<T> = Held<T> & {
  /** Fetches it anew, and shows what there was until it is there. */
  readonly reload: () => Promise<void>;
};

/** Fetches when `keys` change, and shows what there was until it is there. */
export function useResource<T>(
  fetch: (signal: AbortSignal) => Promise<T>,
  keys: readonly unknown[],
): Resource<T> {
  const [held, setHeld] = useState<Held<T>>({ state: "loading" });
  const running = useRef(new AbortController());
  const reload = useCallback(async () => {
    running.current.abort();
    running.current = new AbortController();
    const { signal } = running.current;
    try {
      const value = await fetch(signal);
      if (!signal.aborted) setHeld({ state: "there", value });
    } catch (error) {
      if (!signal.aborted) setHeld({ state: "failed", error });
    }
    // biome-ignore lint/correctness/useExhaustiveDependencies: the caller says what it depends on
  }, keys);
  useEffect(() => {
    setHeld((now) => (now.state === "there" ? now : { state: "loading" }));
    void reload();
    return () => running.current.abort();
  }, [reload]);
  return { ...held, reload };
}
