// What requests of the generated types take and answer, as the clients need it.

import { KeepsakeError } from "./error.js";
import type { CallOptions, PageOptions } from "./keepsake.js";

/** What of a call's options the request takes. */
export function own({ signal }: CallOptions): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

export function cursor(options: PageOptions): { cursor?: string } {
  return options.cursor === undefined ? {} : { cursor: options.cursor };
}

/** The answer of a request that has succeeded, as any that returns has. */
export async function done<T extends { response: Response }>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw KeepsakeError.ofText(200, null, "", null);
  }
}

/** The body of such an answer. */
export async function content<T>(answer: Promise<{ data?: T; response: Response }>): Promise<T> {
  const { data, response } = await done(answer);
  if (data === undefined) throw KeepsakeError.ofText(response.status, null, "", null);
  return data;
}
