// What went wrong, in words: what happened, why, and what to do. The worker's own `detail` says the
// first two; what helps is added here, by the stable code.

import { ProblemError } from "./keepsake";

export interface Explained {
  readonly title: string;
  readonly detail: string;
  readonly advice: string;
}

const ADVICE: Record<string, string> = {
  missing_token: "Sign in again.",
  invalid_token: "Sign in with a new token.",
  token_expired: "Sign in with a new token.",
  missing_tenant: "Ask whoever gave you the token for one that names a tenant.",
  insufficient_scope: "Ask whoever gave you the token for one with more rights.",
  not_found: "It may have been deleted: then it is in the bin.",
  too_many_requests: "Wait a minute and try again.",
  too_many_pending: "Finish or cancel an upload that is under way, and try again.",
  quota_exceeded: "Delete something you no longer need, or ask for more room.",
  name_taken: "Rename the file, or delete the other one first, and try again.",
  upload_expired: "Add the files again.",
  upload_closed: "Add the files again.",
  upload_rejected: "Look at each file below, and add the files again.",
  delete_blocked: "Delete what refers to it first.",
  purged: "It cannot be brought back.",
  database_unavailable: "Nothing is lost: try again in a moment.",
  storage_unavailable: "Nothing is lost: try again in a moment.",
  keys_unavailable: "Nothing is lost: try again in a moment.",
  internal: "Try again; if it stays so, tell whoever runs this, with the request id.",
};

export function explain(error: unknown): Explained {
  if (error instanceof ProblemError) {
    const { title, detail, code, request_id } = error.problem;
    const id = code === "internal" && request_id ? ` Request id: ${request_id}.` : "";
    return { title, detail, advice: (ADVICE[code] ?? "") + id };
  }
  if (!navigator.onLine) {
    return {
      title: "You are offline",
      detail: "This device has no connection.",
      advice: "Everything is kept as it is; go on when you are back.",
    };
  }
  return {
    title: "The server does not answer",
    detail: "The request got no answer that could be understood.",
    advice: "Nothing is lost: look at your connection, and try again in a moment.",
  };
}

/** The same in one line. */
export function inOneLine(error: unknown): string {
  const { title, detail, advice } = explain(error);
  return [title.replace(/\.$/, ""), ". ", detail, " ", advice].join("").trim();
}
