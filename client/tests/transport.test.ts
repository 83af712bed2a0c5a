// What the client does with answers that a real worker gives too rarely for a test.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createKeepsake, KeepsakeError } from "keepsake-client";

const USAGE = { tenant: {}, user: {} };

type Answer = () => Response | Promise<Response>;

/** A client whose requests are answered by these, one after the other. */
function answeredBy(answers: Answer[], token = () => "token") {
  const asked: Request[] = [];
  const fetch = async (input: RequestInfo | URL) => {
    const request = new Request(input);
    asked.push(request);
    const answer = answers[asked.length - 1];
    assert.ok(answer, `an answer too few: ${request.method} ${request.url}`);
    return answer();
  };
  const keepsake = createKeepsake({ url: "http://keepsake.test/", token, fetch });
  return { keepsake, asked };
}

const json = (body: unknown) => () => Response.json(body);

function problem(status: number, code: string, headers: Record<string, string> = {}, more = {}) {
  const body = { type: "about:blank", title: "A title", status, detail: "A detail.", code, ...more };
  const kind = { "content-type": "application/problem+json" };
  return () => new Response(JSON.stringify(body), { status, headers: { ...kind, ...headers } });
}

const unplugged = () => Promise.reject(new TypeError("fetch failed"));

async function failure(promise: Promise<unknown>): Promise<KeepsakeError> {
  const error = await promise.then(
    () => assert.fail("it succeeded"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof KeepsakeError, String(error));
  return error;
}

test("what fails for a reason that passes is sent again, each time with a token", async () => {
  const tokens = ["one", "two", "three", "four"];
  const { keepsake, asked } = answeredBy(
    [unplugged, problem(500, "internal"), () => new Response("", { status: 520 }), json(USAGE)],
    () => tokens.shift() ?? "none",
  );
  assert.deepEqual(await keepsake.usage(), USAGE);
  const bearers = asked.map((request) => request.headers.get("authorization"));
  assert.deepEqual(bearers, ["Bearer one", "Bearer two", "Bearer three", "Bearer four"]);
});

test("it is given up in the end, and what is not going to pass at once", async () => {
  const out = answeredBy(Array<Answer>(4).fill(unplugged));
  const error = await failure(out.keepsake.usage());
  assert.deepEqual([error.code, error.status, error.retryable], ["network_error", 0, true]);
  assert.equal(out.asked.length, 4);

  for (const [status, code] of [
    [500, "keys_unusable"],
    [404, "not_found"],
    [409, "name_taken"],
  ] as const) {
    const { keepsake, asked } = answeredBy([problem(status, code)]);
    const error = await failure(keepsake.usage());
    assert.deepEqual([error.code, error.status, error.retryable], [code, status, false]);
    assert.equal(asked.length, 1);
  }
});

test("Retry-After is waited for, unless it is long", async () => {
  const soon = answeredBy([problem(429, "too_many_requests", { "retry-after": "1" }), json(USAGE)]);
  const before = Date.now();
  await soon.keepsake.usage();
  assert.ok(Date.now() - before >= 990, "it did not wait");

  const late = answeredBy([problem(429, "too_many_requests", { "retry-after": "60" })]);
  const error = await failure(late.keepsake.usage());
  assert.deepEqual([error.retryAfter, error.retryable], [60, true]);
  assert.equal(late.asked.length, 1);
});

test("a repeated declaration keeps its Idempotency-Key", async () => {
  const upload = { id: "u", expires_at: "", files: [] };
  const { keepsake, asked } = answeredBy([unplugged, problem(409, "idempotency_in_flight"), json(upload)]);
  const body = { entity_type: "post", entity_id: "1", files: [] };
  await keepsake.uploads.declare(body);
  const keys = asked.map((request) => request.headers.get("idempotency-key"));
  assert.match(keys[0] ?? "", /^[0-9a-f-]{36}$/);
  assert.deepEqual(keys, [keys[0], keys[0], keys[0]]);
  assert.deepEqual(await asked[2]?.json(), body);
});

test("a token that ran out on the way is asked for once more", async () => {
  const tokens = ["old", "new"];
  const renewed = answeredBy([problem(401, "token_expired"), json(USAGE)], () => tokens.shift() ?? "none");
  assert.deepEqual(await renewed.keepsake.usage(), USAGE);

  const stuck = answeredBy([problem(401, "token_expired")]);
  assert.equal((await failure(stuck.keepsake.usage())).code, "token_expired");
});

test("whoever gives up is told his own reason, also while it waits to try again", async () => {
  const { keepsake, asked } = answeredBy([problem(503, "storage_unavailable", { "retry-after": "9" })]);
  const reason = new Error("enough");
  const stop = new AbortController();
  setTimeout(() => stop.abort(reason), 50);
  const before = Date.now();
  await assert.rejects(keepsake.usage({ signal: stop.signal }), reason);
  assert.ok(Date.now() - before < 1000, "it went on waiting");
  assert.equal(asked.length, 1);

  await assert.rejects(keepsake.usage({ signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(asked.length, 1, "it was sent nevertheless");
});

test("an error has all that the problem says", async () => {
  const errors = [
    { pointer: "/files/1/name", code: "file_name_invalid", detail: "No." },
    { pointer: "/files/10/name", code: "file_name_invalid", detail: "Nor this." },
    { pointer: "/files/1", code: "size_mismatch", detail: "Nor that." },
  ];
  const more = {
    errors,
    conflicts: [{ kind: "unique", table: "t", key: null }],
    request_id: "r",
    quota: { scope: "user" },
  };
  const { keepsake } = answeredBy([problem(422, "invalid_upload", {}, more)]);
  const error = await failure(keepsake.usage());
  assert.equal(error.message, "A title: A detail.");
  assert.deepEqual(
    error.ofFile(1).map(({ detail }) => detail),
    ["No.", "Nor that."],
  );
  assert.deepEqual(error.conflicts, more.conflicts);
  assert.deepEqual([error.requestId, error.quota?.scope], ["r", "user"]);
});

test("an answer that is not Keepsake's own is an error with words of its own", async () => {
  const html = () => new Response("<html>", { status: 403, headers: { "content-type": "text/html" } });
  const broken = () => new Response("{", { headers: { "content-type": "application/json" } });
  const empty = () => new Response(null, { status: 200 });
  for (const answer of [html, broken, empty]) {
    const { keepsake } = answeredBy([answer]);
    assert.equal((await failure(keepsake.usage())).code, "unexpected_answer");
  }
  const { keepsake } = answeredBy([() => new Response(null, { status: 204 })]);
  assert.equal((await failure(keepsake.attachments.delete("x"))).code, "unexpected_answer");
});

test("a listing goes on to its last page, and no further than it is read", async () => {
  const pages = [
    json({ items: [{ id: "1" }, { id: "2" }], next_cursor: "c" }),
    json({ items: [{ id: "3" }], next_cursor: null }),
  ];
  const all = answeredBy(pages);
  const seen = [];
  for await (const item of all.keepsake.attachments.all({ q: "a b&c" })) seen.push(item.id);
  assert.deepEqual(seen, ["1", "2", "3"]);
  const queries = all.asked.map((request) => new URL(request.url).search);
  assert.deepEqual(queries, ["?q=a%20b%26c", "?q=a%20b%26c&cursor=c"]);

  const some = answeredBy(pages);
  for await (const item of some.keepsake.attachments.all()) if (item.id === "1") break;
  assert.equal(some.asked.length, 1);
});

test("ids cannot lead to another path", async () => {
  const { keepsake, asked } = answeredBy([problem(400, "invalid_id"), problem(400, "invalid_id")]);
  await failure(keepsake.attachments.get("../usage"));
  await failure(keepsake.attachments.contentUrl("../../usage?x="));
  const paths = asked.map((request) => new URL(request.url).pathname);
  assert.deepEqual(paths, ["/v1/attachments/..%2Fusage", "/v1/attachments/..%2F..%2Fusage%3Fx%3D/content"]);
});
