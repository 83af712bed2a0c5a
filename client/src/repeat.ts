import { KeepsakeError } from "./error.js";

/** How long something is tried. */
export interface Patience {
  /** How often at most, the first time included. */
  attempts: number;
  /** The longest pause between two attempts, in milliseconds. A longer `Retry-After` is left to the caller, in the error. */
  longestPause: number;
  /** Whether it waits while the browser is offline, however long that takes. */
  waitsOffline: boolean;
}

/** For a request: whoever waits for its answer should be told soon. */
export const REQUEST: Patience = { attempts: 4, longestPause: 10_000, waitsOffline: false };

/** For the bytes of a file, of which the next attempt spares the others: about a minute of trouble. */
export const BYTES: Patience = { attempts: 9, longestPause: 20_000, waitsOffline: true };

/** For a request of an upload, which tries several times by itself. */
export const OFFLINE: Patience = { attempts: 1, longestPause: 0, waitsOffline: true };

/** The first pause, in milliseconds; each next one is twice as long. */
const FIRST_PAUSE = 250;

/** How often a browser is asked whether it is online again, should it not say so by itself, in milliseconds. */
const ASK_AGAIN = 15_000;

/**
 * Does something that may be done again without harm, and does it again while it fails for a
 * reason that passes. A `Retry-After` is respected. What waits while the browser is offline does not
 * count that as an attempt.
 */
export async function repeat<T>(
  act: () => Promise<T>,
  signal: AbortSignal | undefined,
  patience: Patience = REQUEST,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof KeepsakeError) || !error.retryable) throw error;
      if (patience.waitsOffline && error.code === "network_error" && isOffline()) {
        await online(signal);
        attempt = 0;
        continue;
      }
      const pause = pauseAfter(error, attempt, patience);
      if (pause === undefined) throw error;
      await sleep(pause, signal);
    }
  }
}

/** Milliseconds to wait; nothing when it is not to be tried again. */
function pauseAfter(error: KeepsakeError, attempt: number, patience: Patience): number | undefined {
  if (attempt >= patience.attempts) return undefined;
  if (error.retryAfter !== undefined) {
    const asked = error.retryAfter * 1000;
    return asked <= patience.longestPause ? asked : undefined;
  }
  const pause = Math.min(FIRST_PAUSE * 2 ** (attempt - 1), patience.longestPause);
  // Half of it is chance, so that many callers do not come back in the same moment.
  return pause * (0.5 + Math.random() / 2);
}

/** Only browsers know. */
function isOffline(): boolean {
  return globalThis.navigator?.onLine === false;
}

async function online(signal: AbortSignal | undefined): Promise<void> {
  while (isOffline()) {
    const back = new AbortController();
    const tell = () => back.abort();
    globalThis.addEventListener("online", tell, { once: true });
    try {
      await sleep(ASK_AGAIN, signal, back.signal);
    } finally {
      globalThis.removeEventListener("online", tell);
    }
  }
}

/** Waits; less where `enough` says so. */
function sleep(milliseconds: number, signal: AbortSignal | undefined, enough?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      enough?.removeEventListener("abort", end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end, { once: true });
    enough?.addEventListener("abort", end, { once: true });
  });
}
