// A set: the files that are declared together, and become visible together or not at all. What is
// known of it is kept with Uppy's files, so that it survives a reload of the page.

import type { Meta, UppyFile } from "@uppy/core";
import type { EntityRef, Keepsake, Limits, Rules, Upload } from "keepsake-client";

/** What Uppy keeps of each file of a declared set. */
export interface Declared {
  /** The upload's id. */
  readonly upload: string;
  /** The `Idempotency-Key` under which it was declared. */
  readonly key: string;
  readonly attachment: string;
  /** Its place in the declaration. */
  readonly index: number;
  readonly sha256: string;
  /** Bytes of each part, of a file that comes in parts. */
  readonly partSize: number | null;
  readonly checksum: "sha256" | "crc32c" | null;
}

export interface FileMeta extends Meta {
  declared?: Declared | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: no answer of a store is read
export type KeepsakeFile = UppyFile<FileMeta, any>;

/** What is wrong with one file. */
export interface FileProblem {
  readonly name: string;
  readonly detail: string;
}

/** A set as the rules check it before its files are read. */
export function draft(entity: EntityRef, files: readonly Pick<KeepsakeFile, "name" | "size">[]) {
  return {
    entity_type: entity.type,
    entity_id: entity.id,
    files: files.map(({ name, size }) => ({ name: name ?? "", size: size ?? 0 })),
  };
}

/** Declares a set, or signs its URLs anew under the key that it was declared by. */
export function declare(
  keepsake: Keepsake,
  entity: EntityRef,
  files: readonly KeepsakeFile[],
  sha256: readonly string[],
  key: string,
): Promise<Upload> {
  const bare = draft(entity, files);
  const hashed = bare.files.map((file, index) => ({ ...file, sha256: sha256[index] ?? "" }));
  return keepsake.uploads.declare({ ...bare, files: hashed }, { idempotencyKey: key });
}

/** What is kept of each file of a set that has been declared. */
export function kept(upload: Upload, sha256: readonly string[], key: string): Declared[] {
  return upload.files.map((target, index) => {
    const parts = "multipart" in target ? target.multipart : undefined;
    return {
      upload: upload.id,
      key,
      attachment: target.attachment_id,
      index,
      sha256: sha256[index] ?? "",
      partSize: parts?.part_size ?? null,
      checksum: parts?.checksum ?? null,
    };
  });
}

/** Bytes of a file that this browser has. */
export function bytesOf(file: KeepsakeFile): Blob {
  if (file.isRemote || !(file.data instanceof Blob))
    throw new Error(`The bytes of ${file.name} are missing.`);
  return file.data;
}

/** Reads every file: its content against its name, and its SHA-256 unless something is wrong. */
export async function read(
  rules: Rules,
  limits: Limits,
  files: readonly KeepsakeFile[],
  onProgress: (file: KeepsakeFile, share: number) => void,
): Promise<{ problems: FileProblem[]; sha256: string[] }> {
  const problems: FileProblem[] = [];
  for (const file of files) {
    const named = new File([bytesOf(file)], file.name ?? "");
    for (const { detail } of await rules.checkContent(named, limits))
      problems.push({ name: named.name, detail });
  }
  const sha256: string[] = [];
  if (problems.length > 0) return { problems, sha256 };
  for (const file of files) {
    const bytes = bytesOf(file);
    const told = (done: number) => onProgress(file, done / Math.max(bytes.size, 1));
    sha256.push(await rules.sha256(bytes, { onProgress: told }));
  }
  return { problems, sha256 };
}
