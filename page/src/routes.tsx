// What there is to see. A view is one entry here; it is loaded when it is first looked at.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Session } from "./session";

/** What a view is given: the variable parts of its address. */
export interface ViewProps {
  readonly params: readonly string[];
}

export interface Route {
  /** The address behind the `#`; each group is one parameter. */
  readonly path: RegExp;
  readonly load: () => Promise<ComponentType<ViewProps>>;
  /** In the navigation: its name and where it leads. */
  readonly nav?: { readonly label: string; readonly href: string };
  /** Shown only to who has this scope. */
  readonly scope: string;
  /** Of one tenant: a token that names none, as an operator's may, has nothing there. */
  readonly ofTenant?: boolean;
}

/** Of what a tenant has. */
const OWN = { scope: "attachments:read", ofTenant: true } as const;

export const ROUTES: readonly Route[] = [
  {
    ...OWN,
    path: /^\/(?:entities\/post)?$/,
    load: async () => (await import("./views/entities")).Entities,
    nav: { label: "Posts", href: "#/" },
  },
  {
    ...OWN,
    path: /^\/entities\/([^/]+)$/,
    load: async () => (await import("./views/entities")).Entities,
    nav: { label: "Threads", href: "#/entities/thread" },
  },
  {
    ...OWN,
    path: /^\/entity\/([^/]+)\/([^/]+)$/,
    load: async () => (await import("./views/entity")).EntityView,
  },
  {
    ...OWN,
    path: /^\/files$/,
    load: async () => (await import("./views/files")).Files,
    nav: { label: "Files", href: "#/files" },
  },
  {
    ...OWN,
    path: /^\/file\/([^/]+)$/,
    load: async () => (await import("./views/file")).FileView,
  },
  {
    ...OWN,
    path: /^\/bin$/,
    load: async () => (await import("./views/bin")).Bin,
    nav: { label: "Bin", href: "#/bin" },
  },
  {
    ...OWN,
    path: /^\/bin\/([^/]+)$/,
    load: async () => (await import("./views/deletion")).DeletionView,
  },
  {
    path: /^\/operator$/,
    load: async () => (await import("./operator/operator")).Operator,
    nav: { label: "Operations", href: "#/operator" },
    scope: "operator",
  },
];

export interface Found {
  readonly route: Route;
  readonly params: readonly string[];
}

/** The route of an address, if there is one for this session. */
export function find(address: string, session: Session): Found | undefined {
  for (const route of ROUTES) {
    const match = route.path.exec(address);
    const params = match && decoded(match.slice(1));
    if (params && allows(route, session)) return { route, params };
  }
  return undefined;
}

/** The parts of an address, or nothing of one that is badly escaped: anybody can make a link. */
function decoded(parts: readonly string[]): string[] | undefined {
  try {
    return parts.map((part) => decodeURIComponent(part));
  } catch {
    return undefined;
  }
}

export function allows(route: Route, session: Session): boolean {
  return session.scopes.includes(route.scope) && (!route.ofTenant || session.tenant !== "");
}

/** Where somebody begins: the first place of the navigation that is theirs, if there is any. */
export const home = (session: Session): string | undefined =>
  ROUTES.find((route) => route.nav && allows(route, session))?.nav?.href;

const current = (): string => location.hash.slice(1) || "/";

/** The address, as it changes. */
export function useAddress(): string {
  const [address, setAddress] = useState(current);
  useEffect(() => {
    const follow = () => setAddress(current());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return address;
}
