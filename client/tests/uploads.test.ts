// What an upload does with a network and a store that stumble, which a real store does too rarely for a test.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import {
  createKeepsake,
  KeepsakeError,
  type Upload,
  type UploadProgress,
  uploadFiles,
} from "keepsake-client";
import { loadRules, uploadFiles as uploadInNode } from "keepsake-client/node";

const rules = await loadRules();
const entity = { type: "post", id: "1" };
const PART = 5 * 1024 * 1024;

/** How the store answers one PUT. */
type Stumble = "lost" | { status: number; code?: string; headers?: Record<string, string> };

/** Keepsake and its store in one server, as far as an upload asks them. */
class Fake {
  /** What happens to the next PUTs of a path, one after the other. */
  readonly stumbles = new Map<string, Stumble[]>();
  /** Every PUT that came whole, by its path. */
  readonly puts: string[] = [];
  readonly stored = new Map<string, Buffer>();
  /** What else was asked. */
  readonly asked: string[] = [];
  /** What becomes of the set. */
  state = "pending";
  /** How much one request may hold; a server of before does not say. */
  inlineMaxBytes: number | undefined;
  /** Files that came with one request, and their keys. */
  readonly attached: { names: string[]; key: string | undefined }[] = [];
  /** How the next of these requests are answered. */
  readonly attachStumbles: Stumble[] = [];
  /** The parts that are stored before. */
  parts: { number: number; size: number }[] = [];
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch((error) => response.destroy(error));
  });
  #inParts = false;

  async start({ inParts = false } = {}): Promise<this> {
    this.#inParts = inParts;
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
    after(() => this.#server.close().closeAllConnections());
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  keepsake() {
    return createKeepsake({ url: this.url, token: () => "token" });
  }

  /** What `declare` answers for these files. */
  upload(files: readonly { name: string; size: number }[]): Upload {
    const targets = files.map(({ size }, index) => {
      const common = { attachment_id: `a${index}`, name: files[index]?.name };
      if (!this.#inParts) return { ...common, method: "PUT", url: `${this.url}/o/${index}`, headers: {} };
      const part_count = Math.ceil(size / PART);
      return { ...common, multipart: { part_size: PART, part_count, checksum: null } };
    });
    return { id: "u", expires_at: "2030-01-01T00:00:00Z", files: targets, notes: [] } as unknown as Upload;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const path = request.url ?? "";
    if (request.method === "PUT") {
      // A store takes no body whose length it is not told.
      assert.equal(request.headers["content-length"], String(body.length));
      return this.#put(path, body, response);
    }
    this.asked.push(`${request.method} ${path.split("?")[0]}`);
    if (request.method === "POST" && path === "/v1/post/1/attachments") {
      return this.#attach(request, body, response);
    }
    const answer = this.#api(`${request.method} ${path.split("?")[0]}`, body);
    response.writeHead(answer === undefined ? 204 : 200, { "content-type": "application/json" });
    response.end(answer === undefined ? undefined : JSON.stringify(answer));
  }

  async #attach(request: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> {
    const headers = { "content-type": String(request.headers["content-type"]) };
    const form = await new Response(new Uint8Array(body), { headers }).formData();
    const files = form.getAll("file") as File[];
    const key = request.headers["idempotency-key"];
    const digests = form.getAll("sha256");
    for (const [index, file] of files.entries()) {
      const digest = createHash("sha256").update(new Uint8Array(await file.arrayBuffer()));
      const bytes = Buffer.from(
        String(digests[index]),
        String(digests[index]).length === 64 ? "hex" : "base64",
      );
      assert.deepEqual(bytes, digest.digest());
    }
    this.attached.push({ names: files.map(({ name }) => name), key: String(key) });
    const stumble = this.attachStumbles.shift();
    if (stumble === "lost") return void response.destroy();
    if (stumble !== undefined) {
      response.writeHead(stumble.status, { "content-type": "application/problem+json", ...stumble.headers });
      const { status, code } = stumble;
      const errors =
        code === "invalid_upload" ? [{ pointer: "/files/0/sha256", code: "sha256_mismatch" }] : [];
      response.end(JSON.stringify({ type: "about:blank", title: "t", detail: "d", status, code, errors }));
      return;
    }
    response.writeHead(201, { "content-type": "application/json" });
    response.end(JSON.stringify({ id: "u", state: "completed", attachments: [] }));
  }

  #put(path: string, body: Buffer, response: ServerResponse): void {
    this.puts.push(path);
    const stumble = this.stumbles.get(path)?.shift();
    if (stumble === "lost") {
      response.destroy();
    } else if (stumble !== undefined) {
      response.writeHead(stumble.status, { "content-type": "application/xml", ...stumble.headers });
      response.end(stumble.code && `<Error><Code>${stumble.code}</Code></Error>`);
    } else {
      this.stored.set(path, body);
      response.writeHead(200).end();
    }
  }

  #api(request: string, body: Buffer): unknown {
    switch (request) {
      case "GET /v1/limits": {
        const bytes = 1 << 30;
        const limits = { max_files: 5, max_file_bytes: bytes, max_set_bytes: bytes, file_types: "" };
        const inline = this.inlineMaxBytes === undefined ? {} : { inline_max_bytes: this.inlineMaxBytes };
        return {
          ...limits,
          ...inline,
          number_duplicates: false,
          max_image_pixels: 1000,
          multipart_threshold_bytes: 1,
        };
      }
      case "POST /v1/uploads":
        return this.upload(JSON.parse(body.toString()).files);
      case "POST /v1/uploads/u/parts": {
        const { parts } = JSON.parse(body.toString()) as { parts: { number: number }[] };
        return {
          parts: parts.map(({ number }) => ({ number, url: `${this.url}/p/${number}`, headers: {} })),
        };
      }
      case "GET /v1/uploads/u/parts":
        return { attachment_id: "a0", part_size: PART, part_count: 3, checksum: null, parts: this.parts };
      case "GET /v1/uploads/u":
        return { id: "u", state: this.state, expires_at: "2030-01-01T00:00:00Z", files: [] };
      case "POST /v1/uploads/u/complete":
        return { id: "u", state: "completed", attachments: [] };
      default:
        return undefined;
    }
  }
}

const notes = () => new File(["some notes\n"], "notes.txt");
/** Three parts. */
const long = () => new File(["a line of text\n".repeat(Math.ceil((2.5 * PART) / 15))], "long.txt");

async function failure(promise: Promise<unknown>): Promise<KeepsakeError> {
  const error = await promise.then(
    () => assert.fail("it succeeded"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof KeepsakeError, String(error));
  return error;
}

for (const stumble of [
  "lost",
  { status: 500 },
  { status: 500, code: "InternalError" },
  { status: 503, code: "SlowDown" },
  { status: 520 },
  { status: 408 },
  { status: 409, code: "ConditionalRequestConflict" },
  { status: 400, code: "RequestTimeout" },
  { status: 429, headers: { "retry-after": "0" } },
] satisfies Stumble[]) {
  test(`a file is sent again after ${JSON.stringify(stumble)}`, async () => {
    const fake = await new Fake().start();
    fake.stumbles.set("/o/0", [stumble, stumble]);
    const done = await uploadFiles(fake.keepsake(), { entity, files: [notes()], rules });
    assert.equal(done.state, "completed");
    assert.deepEqual(fake.puts, ["/o/0", "/o/0", "/o/0"]);
    assert.equal(fake.stored.get("/o/0")?.toString(), "some notes\n");
  });
}

test("what is not going to pass is given up at once, and the set with it", async () => {
  for (const stumble of [
    { status: 403, code: "AccessDenied" },
    { status: 400, code: "BadDigest" },
    { status: 409, code: "SomethingElse" },
    { status: 501 },
  ]) {
    const fake = await new Fake().start();
    fake.stumbles.set("/o/0", [stumble]);
    const error = await failure(uploadFiles(fake.keepsake(), { entity, files: [notes()], rules }));
    assert.deepEqual([error.status, error.storeCode, error.retryable], [stumble.status, stumble.code, false]);
    assert.deepEqual(fake.puts, ["/o/0"]);
    assert.ok(fake.asked.includes("DELETE /v1/uploads/u"), "the set was left open");
  }
});

test("of a file in parts only the part that failed is sent again", async () => {
  const fake = await new Fake().start({ inParts: true });
  fake.stumbles.set("/p/2", ["lost", { status: 500 }]);
  await uploadFiles(fake.keepsake(), { entity, files: [long()], rules });
  assert.deepEqual(fake.puts.toSorted(), ["/p/1", "/p/2", "/p/2", "/p/2", "/p/3"]);
  const parts = ["/p/1", "/p/2", "/p/3"].map((path) => fake.stored.get(path) ?? Buffer.alloc(0));
  assert.ok(Buffer.concat(parts).equals(Buffer.from(await long().arrayBuffer())), "other bytes arrived");
});

test("small files go with one request, tried again under one key", async () => {
  const fake = await new Fake().start();
  fake.inlineMaxBytes = 1000;
  fake.attachStumbles.push("lost", { status: 503, code: "storage_unavailable" });
  const seen: UploadProgress[] = [];
  const onProgress = (progress: UploadProgress) => void seen.push(progress);
  const files = [notes(), new File(["\u00fc"], '\u00fc "1".txt', { type: "text/plain" })];
  const done = await uploadFiles(fake.keepsake(), { entity, files, rules, onProgress });
  assert.equal(done.state, "completed");
  assert.deepEqual(fake.attached[0]?.names, ["notes.txt", '\u00fc "1".txt']);
  assert.equal(fake.attached.length, 3);
  assert.equal(new Set(fake.attached.map(({ key }) => key)).size, 1);
  assert.deepEqual([fake.puts, seen.at(-1)?.phase], [[], "completing"]);
  assert.equal(seen.at(-1)?.loaded, seen.at(-1)?.total);
});

test("what does not go with one request is declared", async () => {
  for (const [bytes, code] of [
    [1, undefined],
    [1000, "body_too_slow"],
    [1000, "method_not_allowed"],
    [1000, "invalid_upload"],
  ] as const) {
    const fake = await new Fake().start();
    fake.inlineMaxBytes = bytes;
    const status = { method_not_allowed: 405, body_too_slow: 408, invalid_upload: 422 }[
      code ?? "body_too_slow"
    ];
    if (code !== undefined) fake.attachStumbles.push(...Array<Stumble>(4).fill({ status, code }));
    await uploadFiles(fake.keepsake(), { entity, files: [notes()], rules });
    assert.deepEqual(fake.puts, ["/o/0"]);
    assert.equal(fake.attached.length > 0, code !== undefined);
  }
  const fake = await new Fake().start();
  fake.inlineMaxBytes = 1000;
  await uploadFiles(fake.keepsake(), { entity, files: [notes()], rules, onDeclared: () => undefined });
  assert.deepEqual([fake.puts, fake.attached], [["/o/0"], []]);
  // What is wrong with the files is wrong in any way.
  fake.attachStumbles.push({ status: 409, code: "name_taken" });
  const error = await failure(uploadFiles(fake.keepsake(), { entity, files: [notes()], rules }));
  assert.deepEqual([error.code, fake.puts.length], ["name_taken", 1]);
});

test("an upload that was declared before goes on with what is missing", async () => {
  const fake = await new Fake().start({ inParts: true });
  // Longer than anybody waits: the caller decides.
  fake.stumbles.set("/p/2", [{ status: 503, headers: { "retry-after": "3600" } }]);
  let kept = "";
  const onDeclared = (upload: Upload) => {
    kept = JSON.stringify(upload);
  };
  const error = await failure(uploadFiles(fake.keepsake(), { entity, files: [long()], rules, onDeclared }));
  assert.deepEqual([error.retryable, error.retryAfter], [true, 3600]);
  assert.ok(!fake.asked.includes("DELETE /v1/uploads/u"), "the set was aborted");

  fake.parts = [
    { number: 1, size: PART },
    { number: 3, size: long().size - 2 * PART },
  ];
  fake.puts.length = 0;
  const seen: UploadProgress[] = [];
  const resume = JSON.parse(kept) as Upload;
  const onProgress = (progress: UploadProgress) => void seen.push(progress);
  await uploadFiles(fake.keepsake(), { entity, files: [long()], rules, resume, onProgress });
  assert.deepEqual(fake.puts, ["/p/2"]);
  assert.equal(fake.asked.filter((request) => request === "POST /v1/uploads").length, 1);
  const first = seen.find(({ phase, loaded }) => phase === "uploading" && loaded > 0);
  assert.equal(first?.loaded, long().size - PART);
  await assert.rejects(uploadFiles(fake.keepsake(), { entity, files: [], rules, resume }), TypeError);
  assert.ok(!fake.asked.includes("DELETE /v1/uploads/u"), "the set was aborted");
});

test("an upload whose completion was not answered is found complete", async () => {
  const fake = await new Fake().start({ inParts: true });
  const resume = fake.upload([{ name: "long.txt", size: long().size }]);
  fake.state = "completed";
  const done = await uploadFiles(fake.keepsake(), { entity, files: [long()], rules, resume });
  assert.deepEqual([done.state, fake.puts], ["completed", []]);
});

test("whoever can go on keeps the set, unless he gives it up", async () => {
  const fake = await new Fake().start();
  const options = { entity, files: [notes()], rules, onDeclared: () => undefined };
  // As a URL that has run out.
  fake.stumbles.set("/o/0", [{ status: 403, code: "AccessDenied" }]);
  await failure(uploadFiles(fake.keepsake(), options));
  assert.ok(!fake.asked.includes("DELETE /v1/uploads/u"), "the set was aborted");
  const stop = new AbortController();
  fake.stumbles.set("/o/0", Array<Stumble>(12).fill({ status: 500 }));
  const given = uploadFiles(fake.keepsake(), { ...options, signal: stop.signal });
  setTimeout(() => stop.abort(), 300);
  await assert.rejects(given, { name: "AbortError" });
  assert.ok(fake.asked.includes("DELETE /v1/uploads/u"), "the set was left open");
});

test("progress is told of each file and of the set, while bytes are sent, and never goes back", async () => {
  const fake = await new Fake().start();
  const files = [notes(), long()];
  fake.stumbles.set("/o/1", ["lost"]);
  const seen: UploadProgress[] = [];
  const onProgress = (progress: UploadProgress) => void seen.push(progress);
  await uploadFiles(fake.keepsake(), { entity, files, rules, onProgress });
  const sending = seen.filter(({ phase }) => phase === "uploading");
  const loads = sending.map((progress) => progress.files[1]?.loaded ?? 0);
  assert.ok(
    loads.some((loaded) => loaded > 0 && loaded < long().size),
    "nothing between none and all was told",
  );
  for (const sums of [loads, sending.map(({ loaded }) => loaded)]) {
    assert.deepEqual(
      sums,
      sums.toSorted((a, b) => a - b),
    );
  }
  assert.equal(sending.at(-1)?.loaded, notes().size + long().size);
});

test("while the browser is offline the upload waits, and then goes on", async () => {
  const fake = await new Fake().start();
  const events = new EventTarget();
  const global = globalThis as unknown as Record<string, unknown>;
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  const navigator = { onLine: false };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  global.addEventListener = events.addEventListener.bind(events);
  global.removeEventListener = events.removeEventListener.bind(events);
  try {
    // More often than anything is tried.
    fake.stumbles.set("/o/0", Array<Stumble>(12).fill("lost"));
    const waiting = setInterval(() => events.dispatchEvent(new Event("online")), 10);
    const uploading = uploadFiles(fake.keepsake(), { entity, files: [notes()], rules });
    while (fake.puts.length === 0) await new Promise((later) => setTimeout(later, 10));
    await new Promise((later) => setTimeout(later, 700));
    assert.equal(fake.puts.length, 1, "it was sent while there was no network");
    fake.stumbles.clear();
    navigator.onLine = true;
    assert.equal((await uploading).state, "completed");
    clearInterval(waiting);

    navigator.onLine = false;
    const stop = new AbortController();
    fake.stumbles.set("/o/0", Array<Stumble>(12).fill("lost"));
    const given = uploadFiles(fake.keepsake(), { entity, files: [notes()], rules, signal: stop.signal });
    setTimeout(() => stop.abort(), 300);
    await assert.rejects(given, { name: "AbortError" });
  } finally {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    delete global.addEventListener;
    delete global.removeEventListener;
  }
});

test("in Node, paths and streams are files", async () => {
  const fake = await new Fake().start();
  const folder = await mkdtemp(join(tmpdir(), "keepsake-client-test-"));
  const path = join(folder, "long.txt");
  const bytes = Buffer.from(await long().arrayBuffer());
  await writeFile(path, bytes);
  const spooled = async () =>
    (await readdir(tmpdir())).filter((name) => name.startsWith("keepsake-")).toSorted();
  const before = await spooled();
  async function* lines() {
    yield new TextEncoder().encode("one\n");
    yield new TextEncoder().encode("two\n");
  }
  const files = [
    path,
    { name: "copy.txt", stream: createReadStream(path) },
    { name: "lines.txt", type: "text/plain", stream: lines() },
    { name: "web.txt", stream: new Blob(["of the web\n"]).stream() },
    notes(),
  ];
  await uploadInNode(fake.keepsake(), { entity, files });
  const digest = (content: Buffer | undefined) =>
    createHash("sha256")
      .update(content ?? "")
      .digest("hex");
  assert.equal(digest(fake.stored.get("/o/0")), digest(bytes));
  assert.equal(digest(fake.stored.get("/o/1")), digest(bytes));
  const small = ["/o/2", "/o/3", "/o/4"].map((at) => fake.stored.get(at)?.toString());
  assert.deepEqual(small, ["one\ntwo\n", "of the web\n", "some notes\n"]);
  assert.deepEqual(await spooled(), before, "a temporary file stayed");
  await rm(folder, { recursive: true });
});
