// The worker, as the views see it: the client with the token of this window's session.

import { createKeepsake, type Keepsake, KeepsakeError } from "keepsake-client";
import { createContext } from "preact";
import { useContext, useMemo } from "preact/hooks";
import type { Session } from "./session";

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

/** Whether the person may upload, delete and restore. */
export const useMayWrite = (): boolean => useSession().scopes.includes("attachments:write");

export function useKeepsake(): Keepsake {
  const { session, expired } = useContext(SessionContext);
  return useMemo(() => connect(session, expired), [session, expired]);
}

function connect({ token }: Session, expired: () => void): Keepsake {
  return createKeepsake({
    url: location.origin,
    token: () => token,
    fetch: async (...request) => {
      const response = await fetch(...request);
      if (response.status === 401) expired();
      return response;
    },
  });
}

/** Whether a failure is what is in the way of a restore. */
export const isConflict = (error: unknown): error is KeepsakeError =>
  error instanceof KeepsakeError && error.code === "restore_conflict";

/** Whether it is that it has been purged. */
export const isPurged = (error: unknown): boolean =>
  error instanceof KeepsakeError && error.code === "purged";

/** Whether it does not exist, or not for this person. */
export const isMissing = (error: unknown): boolean =>
  error instanceof KeepsakeError && (error.code === "not_found" || error.code === "invalid_id");
