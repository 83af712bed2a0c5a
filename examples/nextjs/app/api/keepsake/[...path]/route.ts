import { isOwnPage, keepsakeToken, setting } from "@/lib/keepsake";

const ASKED = ["content-type", "idempotency-key", "if-match"];
const ANSWERED = ["content-type", "etag", "keepsake-deletion", "retry-after", "x-request-id"];

type Context = { params: Promise<{ path: string[] }> };

/** Forwards a request with the user's token, which no page ever sees. Small files pass through here, too. */
async function forward(request: Request, { params }: Context): Promise<Response> {
  if (!isOwnPage(request)) return new Response(null, { status: 403 });
  const path = (await params).path.map(encodeURIComponent).join("/");
  const target = new URL(`/${path}${new URL(request.url).search}`, setting("KEEPSAKE_URL"));
  const body = await request.arrayBuffer();
  const answer = await fetch(target, {
    method: request.method,
    headers: { ...only(ASKED, request.headers), authorization: `Bearer ${await keepsakeToken()}` },
    ...(body.byteLength === 0 ? {} : { body }),
  });
  const headers = { ...only(ANSWERED, answer.headers), "cache-control": "no-store" };
  return new Response(answer.body, { status: answer.status, headers });
}

function only(names: string[], headers: Headers): Record<string, string> {
  const given = names.map((name) => [name, headers.get(name)] as const);
  return Object.fromEntries(given.filter((one): one is [string, string] => one[1] !== null));
}

export { forward as DELETE, forward as GET, forward as PATCH, forward as POST };
