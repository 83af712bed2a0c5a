import { KeepsakeError } from "./error.js";
import { repeat } from "./repeat.js";

/** Where a bearer token comes from: asked before every request, so it may be renewed in between. */
export type TokenSource = () => string | Promise<string>;

/**
 * Sends a request with the bearer token and reads the answer with `read`.
 *
 * Every request of this client may be sent again: it reads, or repeating it changes nothing, or it
 * carries an `Idempotency-Key`.
 */
export type Send = <T>(request: Request, read: (response: Response) => Promise<T>) => Promise<T>;

export function transport(token: TokenSource | undefined, fetch: typeof globalThis.fetch): Send {
  async function once<T>(request: Request, read: (response: Response) => Promise<T>): Promise<T> {
    const bearer = await token?.();
    try {
      return await read(await answered(fetch, request, bearer));
    } catch (error) {
      if (!(error instanceof KeepsakeError) || error.code !== "token_expired") throw error;
      // It ran out on the way: if there is a new one by now, it is used.
      const renewed = await token?.();
      if (renewed === bearer) throw error;
      return await read(await answered(fetch, request, renewed));
    }
  }
  return (request, read) => repeat(() => once(request, read), request.signal);
}

/** The answer to a request, if it is not an error. */
async function answered(
  fetch: typeof globalThis.fetch,
  request: Request,
  bearer: string | undefined,
): Promise<Response> {
  const copy = new Request(request.clone(), { credentials: "omit" });
  if (bearer !== undefined) copy.headers.set("authorization", `Bearer ${bearer}`);
  const response = await reached(request, () => fetch(copy));
  if (response.ok || response.status === 304) return response;
  throw await reached(request, () => KeepsakeError.of(response));
}

/** An answer whose body has been read, so that one which breaks off is asked for again. */
export async function whole(request: Request, response: Response): Promise<Response> {
  const body = await reached(request, () => response.arrayBuffer());
  const { status, headers } = response;
  return new Response(body.byteLength > 0 ? body : null, { status, headers });
}

/** Tells a connection that failed from a caller who gave up. */
async function reached<T>(request: Request, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    request.signal.throwIfAborted();
    throw KeepsakeError.unreachable(error);
  }
}
