/// <reference types="node" />
/**
 * The client for Node: uploads from paths and streams, and rules that are read from the disk.
 */
import { randomUUID } from "node:crypto";
import { createWriteStream, openAsBlob } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import type { Completed, Keepsake } from "./keepsake.js";
import { loadRules as load, type Rules, type RulesSource } from "./rules.js";
import { type UploadFilesOptions, uploadFiles as upload } from "./upload-files.js";

export * from "./index.js";

/** What a stream is called; its type is that of its name's extension, unless it is given. */
export interface NamedStream {
  /** The bytes. Their length and SHA-256 have to be known before any is sent, so they go to a temporary file first. */
  stream: AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>;
  /** The file's name. */
  name: string;
  /** Its media type. */
  type?: string;
}

/** A file, the path of one, or a stream. */
export type NodeSource = File | string | URL | NamedStream;

/** Like {@link UploadFilesOptions}, with files from anywhere. */
export interface NodeUploadOptions extends Omit<UploadFilesOptions, "files"> {
  /** The files; they become visible together or not at all. */
  files: readonly NodeSource[];
}

/** Loads the rules, from beside this module unless another place is given. */
export async function loadRules(source?: RulesSource): Promise<Rules> {
  return load(source ?? (await readFile(new URL("./wasm/keepsake_rules_bg.wasm", import.meta.url))));
}

/** Like `uploadFiles` of `keepsake-client`. Files are read as they are sent, and never whole into memory. */
export async function uploadFiles(keepsake: Keepsake, options: NodeUploadOptions): Promise<Completed> {
  const rules = options.rules ?? (await loadRules());
  const spooled: string[] = [];
  try {
    const files: File[] = [];
    for (const source of options.files) files.push(await fileOf(source, spooled, options.signal));
    return await upload(keepsake, { ...options, files, rules });
  } finally {
    await Promise.all(spooled.map((path) => rm(path, { force: true })));
  }
}

async function fileOf(source: NodeSource, spooled: string[], signal: AbortSignal | undefined): Promise<File> {
  if (source instanceof File) return source;
  if (typeof source === "string") return new File([await openAsBlob(source)], basename(source));
  if (source instanceof URL)
    return new File([await openAsBlob(source)], basename(decodeURIComponent(source.pathname)));
  const path = join(tmpdir(), `keepsake-${randomUUID()}`);
  spooled.push(path);
  // In Node, a ReadableStream is an AsyncIterable, too.
  const bytes = Readable.from(source.stream as AsyncIterable<Uint8Array>);
  await pipeline(bytes, createWriteStream(path, { mode: 0o600 }), signal === undefined ? {} : { signal });
  return new File([await openAsBlob(path)], source.name, { type: source.type ?? "" });
}
