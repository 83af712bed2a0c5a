// What went wrong, in words: what happened, why, and what to do. The worker's own `detail` says the
// first two; what helps is added here, by the stable code.

import { KeepsakeError } from "keepsake-client";

export interface Explained {
  readonly title: string;
  readonly detail: string;
  readonly advice: string;
}

const ADVICE: Partial<Record<KeepsakeError["code"], string>> = {
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
  delete_blocked: "Delete what refers to it first.",
  purged: "It cannot be brought back.",
  database_unavailable: "Nothing is lost: try again in a moment.",
  storage_unavailable: "Nothing is lost: try again in a moment.",
  keys_unavailable: "Nothing is lost: try again in a moment.",
  unexpected_answer: "Nothing is lost: try again in a moment.",
};

export function explain(error: unknown): Explained {
  if (error instanceof KeepsakeError && error.code !== "network_error") {
    const { title, detail, code, requestId } = error;
    const advice = ADVICE[code] ?? "";
    // Whoever runs this finds the request by it.
    return code === "internal" && requestId !== undefined
      ? { title, detail, advice: `Try again; if it stays so, report the request ${requestId}.` }
      : { title, detail, advice };
  }
  if (!navigator.onLine) {
    return {
      title: "You are offline",
      detail: "This device has no connection.",
      advice: "Nothing is lost: go on when it is back.",
    };
  }
  return {
    title: "The server does not answer",
    detail: "No answer came that could be understood.",
    advice: "Nothing is lost: look at your connection, and try again in a moment.",
  };
}

/** The same in one line. */
export function inOneLine(error: unknown): string {
  const { title, detail, advice } = explain(error);
  return `${title}. ${detail} ${advice}`.trim();
}
