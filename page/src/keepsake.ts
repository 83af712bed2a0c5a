// The worker, as the views see it: the session's token on every call, and what comes back when a call
// is refused.

import { createContext } from "preact";
import { useContext, useMemo } from "preact/hooks";
import type { Session } from "./session";

/** A failure as RFC 9457 has it, with what Keepsake adds. */
export interface Problem {
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly request_id?: string;
}

export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
    this.name = "ProblemError";
  }
}

export interface Attachment {
  readonly id: string | null;
  readonly entity_type: string;
  readonly entity_id: string;
  readonly name: string;
  readonly media_type?: string;
  readonly size?: number;
  readonly state: string;
  readonly created_at?: string;
  readonly content_url: string;
  readonly days_left?: number;
  readonly purge_after?: string;
  readonly held?: boolean;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly next_cursor: string | null;
}

interface Here {
  readonly session: Session;
  /** Called when the token is no longer taken. */
  readonly expired: () => void;
}

const nobody: Here = {
  session: { token: "", tenant: "", user: "", scopes: [], expiresAt: 0 },
  expired: () => {},
};

export const SessionContext = createContext<Here>(nobody);

export const useSession = (): Session => useContext(SessionContext).session;

/** Calls the worker as the session's person. */
export class Keepsake {
  constructor(
    private readonly token: string,
    private readonly onExpired: () => void,
  ) {}

  async call(path: string, init: RequestInit = {}): Promise<Response> {
    const response = await fetch(path, {
      ...init,
      headers: { ...init.headers, authorization: `Bearer ${this.token}` },
    });
    if (response.ok) return response;
    const error = new ProblemError((await response.json()) as Problem);
    if (error.problem.status === 401) this.onExpired();
    throw error;
  }

  /** The bytes of a file that is safe to show. */
  async bytes(id: string, signal: AbortSignal): Promise<Blob> {
    return (await this.call(`/v1/attachments/${id}/content?inline=true`, { signal })).blob();
  }

  /** A URL of the bytes, for the browser to save: it works for a few minutes, and needs no token. */
  async download(id: string): Promise<string> {
    // The redirect's target cannot be seen in any other way, and its first byte is enough.
    const first = await this.call(`/v1/attachments/${id}/content`, { headers: { range: "bytes=0-0" } });
    await first.body?.cancel();
    return first.url;
  }

  async attachments(query: URLSearchParams, signal: AbortSignal): Promise<Page<Attachment>> {
    return (await this.call(`/v1/attachments?${query}`, { signal })).json();
  }
}

export function useKeepsake(): Keepsake {
  const { session, expired } = useContext(SessionContext);
  // biome-ignore lint/correctness/useExhaustiveDependencies: one for each token
  return useMemo(() => new Keepsake(session.token, expired), [session.token]);
}
