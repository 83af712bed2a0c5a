// Who is here: a bearer token, kept for as long as this window lives, so that two windows can be two
// people. What the token says is only shown; the worker is the one that verifies it.

export interface Session {
  readonly token: string;
  readonly tenant: string;
  readonly user: string;
  readonly scopes: readonly string[];
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

const KEY = "keepsake.token";

/** Reads the claims of a JWT (RFC 7519), or nothing if it is none. */
export function read(token: string): Session | undefined {
  const payload = token.split(".")[1];
  if (payload === undefined) return undefined;
  try {
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (c) =>
      c.charCodeAt(0),
    );
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims !== "object" || claims === null) return undefined;
    const { sub, tenant, scope, exp } = claims as Record<string, unknown>;
    return {
      token,
      tenant: typeof tenant === "string" ? tenant : "",
      user: typeof sub === "string" ? sub : "",
      scopes: typeof scope === "string" ? scope.split(" ") : [],
      expiresAt: typeof exp === "number" ? exp * 1000 : 0,
    };
  } catch {
    return undefined;
  }
}

/** Takes a token out of the address, where history and screenshots would keep it, or else that of this window. */
export function open(): Session | undefined {
  const given = new URLSearchParams(location.hash.replace(/^#\/?/, "")).get("token");
  if (given !== null) {
    history.replaceState(null, "", "#/");
    return start(given);
  }
  const kept = sessionStorage.getItem(KEY);
  return kept === null ? undefined : read(kept);
}

export function start(token: string): Session | undefined {
  const session = read(token.trim());
  if (session) sessionStorage.setItem(KEY, session.token);
  return session;
}

export function end(): void {
  sessionStorage.removeItem(KEY);
}
