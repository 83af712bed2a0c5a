// Who is here: a bearer token, kept for as long as this window lives, so that two windows can be two
// people. What the token says is only shown; the worker is the one that verifies it.
//
// Anybody can make somebody follow a link. One with a token lets in whom nobody was before; where somebody is
// signed in they are asked, or what they upload next would be another's.

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

/** The token in an address, however it stands there. */
function tokenIn(address: URL): string | null {
  const behind = new URLSearchParams(address.hash.replace(/^#[/?&]*/, ""));
  return behind.get("token");
}

/** Takes a token out of the address, where history and screenshots would keep it, and leaves `place` there. */
function takeFromAddress(place: string): string | null {
  const address = new URL(location.href);
  const token = tokenIn(address);
  // The worker has no use for one in the query, and nor has the page.
  const isAsked = address.searchParams.has("token");
  address.searchParams.delete("token");
  if (token !== null) address.hash = place;
  if (token !== null || isAsked) history.replaceState(null, "", address);
  return token;
}

function kept(): Session | undefined {
  const token = sessionStorage.getItem(KEY);
  return token === null ? undefined : read(token);
}

export interface Opened {
  /** Who is here. */
  readonly session: Session | undefined;
  /** Whom a link would have here instead. */
  readonly offered: Session | undefined;
}

/** Who is here: whose token this window has, or else whose is in the address. */
export function open(place = "#/"): Opened {
  const token = takeFromAddress(place);
  const session = kept();
  if (token === null) return { session, offered: undefined };
  if (!session) return { session: start(token), offered: undefined };
  const offered = read(token.trim());
  return { session, offered: offered?.token === session.token ? undefined : offered };
}

/** Calls back with what comes of each further link with a token that is opened in this window. Where the person was they stay. */
export function onLink(follow: (opened: Opened) => void): () => void {
  const look = (event: HashChangeEvent) => {
    if (tokenIn(new URL(event.newURL)) === null) return;
    // Nobody else sees an address with a token in it.
    event.stopImmediatePropagation();
    const before = new URL(event.oldURL);
    follow(open(tokenIn(before) === null ? before.hash : "#/"));
  };
  addEventListener("hashchange", look, { capture: true });
  return () => removeEventListener("hashchange", look, { capture: true });
}

export function start(token: string): Session | undefined {
  const session = read(token.trim());
  if (session) sessionStorage.setItem(KEY, session.token);
  return session;
}

export function end(): void {
  sessionStorage.removeItem(KEY);
}
