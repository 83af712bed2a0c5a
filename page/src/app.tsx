// The frame: who is here, where one can go, and the view of the address.

import type { ComponentType } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Announcements } from "./announce";
import { SessionContext } from "./keepsake";
import { Mark } from "./parts/mark";
import { Person } from "./parts/person";
import { Failure, Loading } from "./parts/states";
import { allows, type Found, find, home, ROUTES, useAddress, type ViewProps } from "./routes";
import { end, onLink, open, type Session, start as startSession } from "./session";
import { SignIn, type SignInReason } from "./sign-in";
import { Swap } from "./swap";

export function App() {
  const [{ session, offered }, setOpened] = useState(open);
  const [reason, setReason] = useState<SignInReason>("new");
  const setSession = useCallback(
    (session: Session | undefined) => setOpened({ session, offered: undefined }),
    [],
  );
  const leave = useCallback(
    (why: SignInReason) => {
      end();
      setReason(why);
      setSession(undefined);
    },
    [setSession],
  );
  // Before any view follows the address: effects of children come first, layout effects before all others.
  useLayoutEffect(() => onLink(setOpened), []);
  const here = useMemo(() => session && { session, expired: () => leave("expired") }, [session, leave]);
  if (!here) return <SignIn reason={reason} onSession={setSession} />;
  const swap = () => {
    if (!offered) return;
    history.replaceState(null, "", "#/");
    setSession(startSession(offered.token));
  };
  return (
    <SessionContext.Provider value={here}>
      <Announcements>
        {/* Another person sees nothing of this one's, not even for a moment. */}
        <Frame key={here.session.token} session={here.session} onLeave={() => leave("left")} />
      </Announcements>
      {offered && (
        <Swap
          key={offered.token}
          here={here.session}
          offered={offered}
          onStay={() => setSession(here.session)}
          onSwap={swap}
        />
      )}
    </SessionContext.Provider>
  );
}

function Frame({ session, onLeave }: { session: Session; onLeave: () => void }) {
  const address = useAddress();
  const found = find(address, session);
  const start = home(session);
  useEffect(() => {
    if (address === "/" && !found && start) location.replace(start);
  }, [address, found, start]);
  return (
    <>
      <button type="button" class="button skip" onClick={skip}>
        Skip to content
      </button>
      <header class="frame-head">
        <a class="brand" href={start ?? "#/"}>
          <Mark />
          Keepsake
        </a>
        {start && (
          <nav aria-label="Main">
            {ROUTES.filter((route) => route.nav && allows(route, session)).map(({ nav }) => (
              <a
                key={nav?.href}
                href={nav?.href}
                aria-current={found?.route.nav === nav ? "page" : undefined}
              >
                {nav?.label}
              </a>
            ))}
          </nav>
        )}
        <p class="person">
          <span>
            <Person of={session} />
          </span>
          <button type="button" class="plain" onClick={onLeave}>
            Sign out
          </button>
        </p>
      </header>
      <main id="content" tabIndex={-1}>
        {found ? (
          <View key={address} found={found} />
        ) : start ? (
          <Nowhere start={start} />
        ) : (
          <Barred session={session} />
        )}
      </main>
    </>
  );
}

/** A link would change the address, which says what is looked at. */
function skip(): void {
  document.getElementById("content")?.focus();
}

function View({ found: { route, params } }: { found: Found }) {
  const [Loaded, setLoaded] = useState<{ view: ComponentType<ViewProps> }>();
  const [error, setError] = useState<unknown>();
  const attempt = () => {
    setError(undefined);
    route.load().then((view) => setLoaded({ view }), setError);
  };
  useEffect(attempt, [route]);
  useFocusOnArrival();
  if (error !== undefined) return <Failure level={1} error={error} onRetry={attempt} />;
  if (!Loaded) return <Loading what="the page" />;
  return <Loaded.view params={params} />;
}

let hasArrived = false;

/** Takes the focus to a new view, as a browser does with a new page; not on the first. */
function useFocusOnArrival(): void {
  const isFirst = useRef(!hasArrived);
  useEffect(() => {
    hasArrived = true;
    if (isFirst.current) return;
    document.getElementById("content")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, []);
}

function Nowhere({ start }: { start: string }) {
  return (
    <section class="empty">
      <h1>There is nothing at this address</h1>
      <p>It may have been mistyped, or made for somebody with other rights.</p>
      <p>
        <a class="button" href={start}>
          Go to the start page
        </a>
      </p>
    </section>
  );
}

/** For a token with which nothing here can be looked at. */
function Barred({ session: { tenant, scopes } }: { session: Session }) {
  const isScoped = scopes.includes("attachments:read");
  return (
    <section class="empty">
      <h1>Your token opens nothing here</h1>
      <p>
        {isScoped && tenant === "" ? "The token names no tenant." : "The token may not read attachments."} Ask
        whoever issued it for one that names your tenant and has the scope <code>attachments:read</code>.
      </p>
    </section>
  );
}
