// The client against a real worker, database and bucket: tests/tests/client.rs starts them.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  createKeepsake,
  createOperator,
  type EntityRef,
  KeepsakeError,
  type UploadProgress,
  uploadFiles,
  uploadVersion,
} from "keepsake-client";

import { client, fixture, given, rules as loaded, post, sha256 } from "./support.ts";

const keepsake = client();
const rules = await loaded();

/** A text longer than the limit from which files are sent in parts. */
function longText(): File {
  const line = "It was a dark and stormy night; the rain fell in torrents.\n";
  return new File([line.repeat(Math.ceil((6.5 * 1024 * 1024) / line.length))], "long.txt");
}

async function names(entity: EntityRef): Promise<string[]> {
  const found = [];
  for await (const item of keepsake.entities.allAttachments(entity, {})) found.push(item.name);
  return found.sort();
}

async function failure(promise: Promise<unknown>): Promise<KeepsakeError> {
  const error = await promise.then(
    () => assert.fail("it succeeded"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof KeepsakeError, String(error));
  return error;
}

test("files are uploaded as one set, with progress, and can be read again", async () => {
  const entity = post();
  const files = [await fixture("locket.png"), await fixture("letter.pdf"), longText()];
  const seen: UploadProgress[] = [];
  const onProgress = (progress: UploadProgress) => void seen.push(progress);
  const done = await uploadFiles(keepsake, { entity, files, rules, onProgress });

  assert.equal(done.state, "completed");
  assert.deepEqual(await names(entity), ["letter.pdf", "locket.png", "long.txt"]);
  for (const [index, file] of files.entries()) {
    const attachment = done.attachments[index];
    assert.ok(attachment);
    assert.equal(attachment.sha256, await sha256(file));
    assert.deepEqual(await keepsake.attachments.get(attachment.id), attachment);
    const url = await keepsake.attachments.contentUrl(attachment.id);
    assert.match(url, /\/v1\/objects\//);
    const read = await fetch(url);
    assert.equal(await sha256(await read.blob()), attachment.sha256);
    assert.match(read.headers.get("content-disposition") ?? "", /^attachment/);
  }
  const picture = done.attachments[0]?.id ?? "";
  const shown = await fetch(await keepsake.attachments.contentUrl(picture, { inline: true }));
  await shown.body?.cancel();
  assert.match(shown.headers.get("content-disposition") ?? "", /^inline/);

  const total = files.reduce((sum, { size }) => sum + size, 0);
  const phases = seen.map(({ phase }) => phase).filter((phase, at, all) => phase !== all[at - 1]);
  assert.deepEqual(phases, ["checking", "uploading", "completing"]);
  for (const phase of phases) {
    const loads = seen.filter((one) => one.phase === phase).map(({ loaded }) => loaded);
    assert.deepEqual(
      loads,
      loads.toSorted((a, b) => a - b),
      "progress went back",
    );
    assert.equal(loads.at(-1), total, phase);
  }
  assert.deepEqual(
    seen.at(-1)?.files.map(({ name }) => name),
    files.map(({ name }) => name),
  );
});

test("a new version replaces a file, and a former one comes back", async () => {
  const entity = post();
  const first = new File(["the first"], "note.txt");
  const { attachments } = await uploadFiles(keepsake, { entity, files: [first], rules });
  const attachment = attachments[0];
  assert.ok(attachment);
  // In parts.
  const file = longText();
  const done = await uploadVersion(keepsake, { attachment, file, rules });
  const second = done.attachments[0];
  assert.ok(second);
  assert.deepEqual([second.id, second.version, second.name], [attachment.id, 2, "long.txt"]);
  assert.deepEqual(await names(entity), ["long.txt"]);

  const versions = [];
  for await (const one of keepsake.attachments.allVersions(attachment.id)) versions.push(one);
  assert.deepEqual(
    versions.map(({ version, current, name }) => [version, current, name]),
    [
      [2, true, "long.txt"],
      [1, false, "note.txt"],
    ],
  );
  const read = await fetch(await keepsake.attachments.versionUrl(attachment.id, 1));
  assert.equal(await read.text(), "the first");
  assert.equal(
    await sha256(await (await fetch(await keepsake.attachments.contentUrl(second.id))).blob()),
    second.sha256,
  );

  // What was seen before is no more what is there.
  const late = await failure(uploadVersion(keepsake, { attachment, file: first, rules }));
  assert.equal(late.code, "precondition_failed");
  const refused = failure(keepsake.attachments.restoreVersion(attachment.id, 1, { ifVersion: 1 }));
  assert.equal((await refused).code, "precondition_failed");
  const restored = await keepsake.attachments.restoreVersion(attachment.id, 1, { ifVersion: 2 });
  assert.deepEqual([restored.version, restored.sha256], [3, attachment.sha256]);
});

test("what the rules refuse is not sent, and is refused as the server would", async () => {
  const entity = post();
  const kinds = [new File(["#!/bin/sh\n"], "run.sh"), new File(["text"], "notes.txt")];
  const refused = await failure(uploadFiles(keepsake, { entity, files: kinds, rules }));
  const request = {
    entity_type: "post",
    entity_id: entity.id,
    files: [{ name: "run.sh", size: 10, sha256: "0".repeat(64) }],
  };
  const server = await failure(keepsake.uploads.declare(request));
  assert.equal(refused.code, "media_type_not_allowed");
  assert.deepEqual(
    [refused.code, refused.detail, refused.errors],
    [server.code, server.detail, server.errors],
  );

  const lying = [await fixture("notes.txt"), new File(["GIF89a, it says"], "picture.png")];
  const before = (await keepsake.usage()).user.files;
  const error = await failure(uploadFiles(keepsake, { entity, files: lying, rules }));
  assert.equal(error.code, "upload_rejected");
  assert.deepEqual(error.ofFile(0), []);
  assert.equal(error.ofFile(1)[0]?.code, "media_type_mismatch");
  assert.equal((await keepsake.usage()).user.files, before, "something was declared");
});

test("names are cleaned as the server cleans them", async () => {
  const entity = post();
  const files = [new File(["text"], " ../\u202Eplans?.txt ")];
  const done = await uploadFiles(keepsake, { entity, files, rules });
  assert.deepEqual(await names(entity), [done.attachments[0]?.name]);
  assert.equal(done.attachments[0]?.name, rules.sanitizeFileName(files[0]?.name ?? ""));
});

test("an upload that is given up leaves nothing", async () => {
  const entity = post();
  const stop = new AbortController();
  const ids: string[] = [];
  const declare = keepsake.uploads.declare;
  const watched = {
    ...keepsake,
    uploads: {
      ...keepsake.uploads,
      declare: async (...request: Parameters<typeof declare>) => {
        const upload = await declare(...request);
        ids.push(upload.id);
        return upload;
      },
    },
  };
  const onProgress = ({ phase, loaded }: UploadProgress) => {
    if (phase === "uploading" && loaded > 0) stop.abort();
  };
  const files = [await fixture("notes.txt"), longText()];
  const uploading = uploadFiles(watched, { entity, files, rules, onProgress, signal: stop.signal });
  await assert.rejects(uploading, { name: "AbortError" });
  assert.deepEqual(await names(entity), []);
  const status = await keepsake.uploads.status(ids[0] ?? "");
  assert.equal(status.state, "aborted");
});

test("a large file goes on with the parts that have not arrived", async () => {
  const entity = post();
  const file = longText();
  const declared = { name: file.name, size: file.size, sha256: await rules.sha256(file) };
  assert.equal(declared.sha256, await sha256(file));
  const upload = await keepsake.uploads.declare({
    entity_type: "post",
    entity_id: entity.id,
    files: [declared],
  });
  const [target] = upload.files;
  assert.ok(target && "multipart" in target);
  const { part_size, part_count, checksum: kind } = target.multipart;
  assert.deepEqual([part_count, kind], [2, "sha256"]);

  const send = async (number: number) => {
    const body = file.slice((number - 1) * part_size, number * part_size);
    assert.equal(body.size, rules.partBytes(file.size, part_size, number));
    const checksum = await rules.checksum("sha256", body);
    const parts = [{ number, checksum }];
    const signed = await keepsake.uploads.signParts(upload.id, {
      attachment_id: target.attachment_id,
      parts,
    });
    const { url, headers } = signed.parts[0] ?? assert.fail("no part was signed");
    assert.equal((await fetch(url, { method: "PUT", headers, body })).status, 201);
  };
  const arrived = async () => {
    const { parts } = await keepsake.uploads.listParts(upload.id, target.attachment_id);
    return parts.map(({ number }) => number);
  };
  await send(2);
  assert.deepEqual(await arrived(), [2]);
  const early = await failure(keepsake.uploads.complete(upload.id));
  assert.equal(early.code, "not_uploaded");
  await send(1);
  assert.deepEqual(await arrived(), [1, 2]);
  assert.equal((await keepsake.uploads.complete(upload.id)).attachments[0]?.sha256, declared.sha256);
});

test("the same key declares once, and another upload with it is refused", async () => {
  const entity = post();
  const file = { name: "notes.txt", size: 4, sha256: await sha256(new Blob(["text"])) };
  const request = { entity_type: "post", entity_id: entity.id, files: [file] };
  const idempotencyKey = crypto.randomUUID();
  const first = await keepsake.uploads.declare(request, { idempotencyKey });
  assert.equal((await keepsake.uploads.declare(request, { idempotencyKey })).id, first.id);
  const other = { ...request, files: [{ ...file, size: 5 }] };
  const error = await failure(keepsake.uploads.declare(other, { idempotencyKey }));
  assert.equal(error.code, "idempotency_mismatch");
  await keepsake.uploads.abort(first.id);
  await keepsake.uploads.abort(first.id);
});

test("what is deleted comes back, and a conflict names what is in the way", async () => {
  const entity = post();
  const upload = async () => {
    const files = [await fixture("notes.txt")];
    const { attachments } = await uploadFiles(keepsake, { entity, files, rules });
    return attachments[0]?.id ?? assert.fail("no attachment");
  };
  const first = await upload();
  const { deletionId } = await keepsake.attachments.delete(first);
  assert.match(deletionId, /^[0-9a-f-]{36}$/);
  assert.deepEqual(await keepsake.attachments.delete(first), { deletionId });
  assert.equal((await failure(keepsake.attachments.get(first))).code, "not_found");
  const bin = [];
  for await (const item of keepsake.attachments.all({
    state: "deleted",
    entity_type: "post",
    entity_id: entity.id,
  })) {
    bin.push(item.id);
  }
  assert.deepEqual(bin, [first]);

  const second = await upload();
  const conflict = await failure(keepsake.attachments.restore(first));
  assert.equal(conflict.code, "restore_conflict");
  assert.deepEqual(
    conflict.conflicts.map(({ kind, holder }) => [kind, holder]),
    [["unique", { id: second }]],
  );
  await keepsake.attachments.delete(second);
  const restored = await keepsake.attachments.restore(first);
  assert.deepEqual(restored.restored, [{ table: "attachments.attachment", rows: 1 }]);
  assert.deepEqual(await names(entity), ["notes.txt"]);

  await keepsake.entities.delete(entity);
  assert.equal((await failure(keepsake.entities.attachments(entity))).code, "not_found");
  await keepsake.entities.restore(entity);
  assert.deepEqual(await names(entity), ["notes.txt"]);
});

test("the bin shows what a deletion took, and gives back what has a place", async () => {
  const entity = post();
  const upload = async (name: string) => {
    const files = [new File([name], name)];
    await uploadFiles(keepsake, { entity, files, rules });
  };
  await upload("a.txt");
  await upload("b.txt");
  const found = await keepsake.entities.get(entity);
  assert.equal(found.attachments.count, 2);
  const { deletionId } = await keepsake.entities.delete(entity);
  const ids = [];
  for await (const deletion of keepsake.deletions.all({ limit: 1 })) ids.push(deletion.id);
  assert.ok(ids.includes(deletionId));
  const { root, tree, conflicts } = await keepsake.deletions.get(deletionId);
  assert.deepEqual([root.entity_type, root.id, conflicts], ["post", entity.id, []]);
  const labels = tree.flatMap(({ children }) => children.map(({ label }) => label));
  assert.deepEqual(labels.sort(), ["a.txt", "b.txt"]);
  await keepsake.deletions.restore(deletionId);
  assert.deepEqual(await names(entity), ["a.txt", "b.txt"]);

  // In the place of what was deleted there is another now: it is skipped, and renamed it has a place.
  const [item] = (await keepsake.entities.attachments(entity)).items;
  assert.ok(item?.id);
  const deleted = await keepsake.attachments.delete(item.id);
  await upload(item.name);
  const refused = await failure(keepsake.deletions.restore(deleted.deletionId));
  assert.equal(refused.code, "restore_conflict");
  const skipped = await keepsake.deletions.restore(deleted.deletionId, { on_conflict: "skip" });
  assert.deepEqual([skipped.restored, skipped.conflicts?.[0]?.kind], [[], "unique"]);
  assert.equal((await keepsake.attachments.rename(item.id, "c.txt")).name, "c.txt");
  await keepsake.deletions.restore(deleted.deletionId);
  assert.deepEqual(await names(entity), ["a.txt", "b.txt", "c.txt"]);
});

test("entities are listed, found by their label and renamed", async () => {
  const entity = post();
  const renamed = await keepsake.entities.rename(entity, "a-label-of-its-own");
  assert.deepEqual([renamed.id, renamed.label], [entity.id, "a-label-of-its-own"]);
  const found = [];
  for await (const entity of keepsake.entities.all("post", { q: "of-its-own" })) found.push(entity.id);
  assert.deepEqual(found, [entity.id]);
  assert.equal((await keepsake.entities.list("post", { limit: 2 })).items.length, 2);
});

test("an operator sees the deployment, and others do not", async () => {
  const url = given("KEEPSAKE_URL");
  const operator = createOperator({ url, token: () => given("KEEPSAKE_OPERATOR_TOKEN") });
  const entity = post();
  const held = await operator.holds.list();
  assert.deepEqual(held.items, []);
  const { attachments } = await uploadFiles(keepsake, {
    entity,
    files: [new File(["text"], "held.txt")],
    rules,
  });
  await keepsake.attachments.delete(attachments[0]?.id ?? "");
  const plan = await operator.purgePlan({ at: new Date(Date.now() + 40 * 86_400_000).toISOString() });
  assert.ok(JSON.stringify(plan).includes("attachments.attachment"));

  const user = createOperator({ url, token: () => given("KEEPSAKE_TOKEN") });
  assert.equal((await failure(user.history())).code, "insufficient_scope");
});

test("listings are read page by page and searched", async () => {
  const entity = post();
  const files = ["apple.txt", "apricot.txt", "banana.txt"].map((name) => new File([name], name));
  await uploadFiles(keepsake, { entity, files, rules });
  const one = await keepsake.entities.attachments(entity, { limit: 1 });
  assert.equal(one.items.length, 1);
  assert.ok(one.next_cursor);
  const two = await keepsake.entities.attachments(entity, { limit: 1, cursor: one.next_cursor });
  assert.notDeepEqual(two.items, one.items);

  const found = [];
  const filter = { q: "ap", entity_type: "post", entity_id: entity.id, limit: 1 };
  for await (const item of keepsake.attachments.all(filter)) found.push(item.name);
  assert.deepEqual(found.sort(), ["apple.txt", "apricot.txt"]);
});

test("a token that has run out is replaced by the next one", async () => {
  const tokens = [given("KEEPSAKE_EXPIRED_TOKEN"), given("KEEPSAKE_TOKEN")];
  const url = given("KEEPSAKE_URL");
  const renewing = createKeepsake({ url, token: () => tokens.shift() ?? "" });
  assert.ok((await renewing.usage()).user.files >= 0);
  const stranger = createKeepsake({ url, token: () => "nonsense" });
  assert.equal((await failure(stranger.usage())).code, "invalid_token");
});

test("without a server the error says so", async () => {
  const nobody = createKeepsake({ url: "http://127.0.0.1:9", token: () => "token" });
  const error = await failure(nobody.limits());
  assert.deepEqual([error.code, error.retryable], ["network_error", true]);
});
