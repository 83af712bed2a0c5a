// What has just happened, in a line at the foot of the page that is read out as well, with at most
// one thing to do about it.

import type { ComponentChildren } from "preact";
import { createContext } from "preact";
import { useCallback, useContext, useEffect, useMemo, useState } from "preact/hooks";
import { CloseIcon } from "./parts/icons";

export interface Notice {
  readonly text: string;
  readonly kind?: "done" | "failed";
  readonly action?: { readonly label: string; readonly run: () => void };
}

/** Long enough to read, decide and press; it stays while it is pointed at or has the focus. */
const SHOWN_MS = 15_000;

const Announcer = createContext<(notice: Notice) => void>(() => {});

/** Tells what has happened. */
export const useAnnounce = (): ((notice: Notice) => void) => useContext(Announcer);

export function Announcements({ children }: { children: ComponentChildren }) {
  const [notice, setNotice] = useState<(Notice & { key: number }) | undefined>();
  const [held, setHeld] = useState(false);
  const announce = useCallback((next: Notice) => setNotice({ ...next, key: Date.now() }), []);
  const close = useCallback(() => {
    setNotice(undefined);
    setHeld(false);
  }, []);
  useEffect(() => {
    if (!notice || held || notice.kind === "failed") return;
    const timer = setTimeout(close, SHOWN_MS);
    return () => clearTimeout(timer);
  }, [notice, held, close]);
  const value = useMemo(() => announce, [announce]);
  return (
    <Announcer.Provider value={value}>
      {children}
      {/* biome-ignore lint/a11y/noStaticElementInteractions: it only notices that somebody reads */}
      <div
        class="notices"
        onMouseEnter={() => setHeld(true)}
        onMouseLeave={() => setHeld(false)}
        onFocusIn={() => setHeld(true)}
        onFocusOut={() => setHeld(false)}
      >
        <div role="status" aria-live="polite">
          {notice && (
            <div class={`notice ${notice.kind ?? "done"}`} key={notice.key}>
              <p>{notice.text}</p>
              {notice.action && (
                <button
                  type="button"
                  class="plain"
                  onClick={() => {
                    notice.action?.run();
                    close();
                  }}
                >
                  {notice.action.label}
                </button>
              )}
              <button type="button" class="icon" aria-label="Dismiss" onClick={close}>
                <CloseIcon />
              </button>
            </div>
          )}
        </div>
      </div>
    </Announcer.Provider>
  );
}
