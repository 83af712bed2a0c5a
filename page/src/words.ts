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
  missing_tenant: "Ask whoever issued the token for one that names a tenant.",
  insufficient_scope: "Ask whoever issued the token for one with this scope.",
  not_found: "It may have been deleted. Deleted items are in the bin.",
  too_many_requests: "Wait a minute and retry.",
  too_many_pending: "Finish or cancel a pending upload, then retry.",
  quota_exceeded: "Ask for a larger quota. Deleted files count until they are purged.",
  name_taken: "Rename the file, or delete the other one, then retry.",
  precondition_failed: "Look at the current version, then decide again.",
  version_conflict: "Your file was not used.",
  upload_expired: "Add the files again.",
  upload_closed: "Add the files again.",
  delete_blocked: "Delete the rows that refer to it first.",
  purged: "It cannot be restored.",
  schema_outdated: "Tell whoever runs this service.",
  database_unavailable: "Nothing was lost. Retry in a moment.",
  storage_unavailable: "Nothing was lost. Retry in a moment.",
  keys_unavailable: "Nothing was lost. Retry in a moment.",
  unexpected_answer: "Nothing was lost. Retry in a moment.",
};

export function explain(error: unknown): Explained {
  if (error instanceof KeepsakeError && error.code !== "network_error") {
    const { title, detail, code, requestId } = error;
    const advice = ADVICE[code] ?? "";
    // Whoever runs this finds the request by it.
    return code === "internal" && requestId !== undefined
      ? { title, detail, advice: `Retry. If it fails again, report the request ${requestId}.` }
      : { title, detail, advice };
  }
  if (!navigator.onLine) {
    return {
      title: "You are offline",
      detail: "This device has no connection.",
      advice: "Nothing was lost. Continue when the connection is back.",
    };
  }
  return {
    title: "The server does not respond",
    detail: "There was no response, or an unreadable one.",
    advice: "Nothing was lost. Check your connection, then retry in a moment.",
  };
}

/** The same in one line. */
export function inOneLine(error: unknown): string {
  const { title, detail, advice } = explain(error);
  return `${title}. ${detail} ${advice}`.trim();
}
