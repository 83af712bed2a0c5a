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

/** Bytes that are read at once to be sent. */
const PIECE_BYTES = 256 * 1024;

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

async function byFetch(target: SignedPut, body: Blob, options: PutOptions): Promise<Answer> {
  const { signal } = options;
  try {
    const response = await fetch(target.url, {
      method: "PUT",
      ...content(target, body, options),
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

/** The headers and the body. Node alone sends a stream with its length, so that it tells how far it is. */
function content({ headers }: SignedPut, body: Blob, { onProgress }: PutOptions) {
  if (onProgress === undefined || !isNode() || body.size === 0) return { headers, body };
  let sent = 0;
  const counted = new ReadableStream<Uint8Array>({
    async pull(output) {
      onProgress(sent);
      const piece = body.slice(sent, sent + PIECE_BYTES);
      sent += piece.size;
      if (piece.size === 0) output.close();
      else output.enqueue(new Uint8Array(await piece.arrayBuffer()));
    },
  });
  return {
    headers: { ...headers, "content-length": String(body.size) },
    body: counted,
    duplex: "half" as const,
  };
}

function isNode(): boolean {
  const { process } = globalThis as { process?: { versions?: Record<string, string> } };
  const versions = process?.versions ?? {};
  return "node" in versions && !("bun" in versions) && !("deno" in versions);
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
