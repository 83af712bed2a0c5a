import { KeepsakeError } from "./error.js";

/** One signed PUT. */
export interface SignedPut {
  url: string;
  /** To be sent exactly as they stand. */
  headers: Record<string, string>;
}

export interface PutOptions {
  /** Told how many bytes have been sent. */
  onProgress?: (bytes: number) => void;
  signal?: AbortSignal | undefined;
}

/** The store has the object already: an earlier attempt arrived, and only its answer was lost. */
const STORED_ALREADY = 412;

/** Sends bytes to a signed URL. */
export async function put(target: SignedPut, body: Blob, options: PutOptions = {}): Promise<void> {
  // Only an XMLHttpRequest tells how far an upload is, and only browsers have it.
  const send = typeof XMLHttpRequest === "undefined" ? byFetch : byXhr;
  const answer = await send(target, body, options);
  const stored = (answer.status >= 200 && answer.status < 300) || answer.status === STORED_ALREADY;
  if (!stored) {
    throw KeepsakeError.ofText(answer.status, answer.contentType, answer.body, answer.retryAfter);
  }
  options.onProgress?.(body.size);
}

interface Answer {
  status: number;
  contentType: string | null;
  retryAfter: string | null;
  body: string;
}

async function byFetch(target: SignedPut, body: Blob, { signal }: PutOptions): Promise<Answer> {
  try {
    const response = await fetch(target.url, {
      method: "PUT",
      headers: target.headers,
      body,
      credentials: "omit",
      signal: signal ?? null,
    });
    return {
      status: response.status,
      contentType: response.headers.get("content-type"),
      retryAfter: response.headers.get("retry-after"),
      body: await response.text(),
    };
  } catch (error) {
    signal?.throwIfAborted();
    throw KeepsakeError.unreachable(error);
  }
}

function byXhr(target: SignedPut, body: Blob, options: PutOptions): Promise<Answer> {
  const { onProgress, signal } = options;
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("PUT", target.url);
    for (const [name, value] of Object.entries(target.headers)) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = ({ loaded }) => onProgress?.(Math.min(loaded, body.size));
    request.onload = () =>
      resolve({
        status: request.status,
        contentType: request.getResponseHeader("content-type"),
        retryAfter: request.getResponseHeader("retry-after"),
        body: request.responseText,
      });
    request.onerror = () => reject(KeepsakeError.unreachable(undefined));
    request.onabort = () => reject(signal?.reason);
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    signal?.addEventListener("abort", stop, { once: true });
    request.send(body);
  });
}
