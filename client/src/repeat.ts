import { KeepsakeError } from "./error.js";

/** How often something is tried at most, the first time included. */
const ATTEMPTS = 4;

/** The first pause, in milliseconds; each next one is twice as long. */
const FIRST_PAUSE = 250;

/** No longer pause is made, in milliseconds: whoever waits is told instead. */
const LONGEST_PAUSE = 10_000;

/**
 * Does something that may be done again without harm, and does it again while it fails for a
 * reason that passes. A `Retry-After` is respected; one that is too long to wait for is left to the
 * caller, in the error.
 */
export async function repeat<T>(act: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      const pause = error instanceof KeepsakeError ? pauseAfter(error, attempt) : undefined;
      if (pause === undefined) throw error;
      await sleep(pause, signal);
    }
  }
}

/** Milliseconds to wait; nothing when it is not to be tried again. */
function pauseAfter(error: KeepsakeError, attempt: number): number | undefined {
  if (!error.retryable || attempt === ATTEMPTS) return undefined;
  if (error.retryAfter !== undefined) {
    const asked = error.retryAfter * 1000;
    return asked <= LONGEST_PAUSE ? asked : undefined;
  }
  // Half of it is chance, so that many callers do not come back in the same moment.
  return FIRST_PAUSE * 2 ** (attempt - 1) * (0.5 + Math.random() / 2);
}

function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
