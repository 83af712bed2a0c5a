import { type FieldError, KeepsakeError, type Problem } from "./error.js";
import type { FileDeclaration, Limits, UploadRequest } from "./keepsake.js";
import init, * as wasm from "./wasm/keepsake_rules.js";

/** An upload that is not hashed yet: without a SHA-256 only the rest of it is checked. */
export type UploadDraft = Omit<UploadRequest, "files"> & {
  files: (Omit<FileDeclaration, "sha256"> & { sha256?: string })[];
};

/** What is wrong with one file's content. */
export type FileProblem = Pick<FieldError, "code" | "detail">;

/** A checksum that a store verifies of each part of a large file. */
export type ChecksumKind = "sha256" | "crc32c";

/** What calls take that read a whole file. */
export interface ReadOptions {
  /** Told how many bytes have been read. */
  onProgress?: (bytes: number) => void;
  signal?: AbortSignal;
}

/** The server's own rules, the same code compiled to WebAssembly. */
export interface Rules {
  /**
   * Checks an upload as `POST /v1/uploads` will: names, types, sizes, counts. The answer is the very
   * error with which the server would refuse it, or nothing.
   */
  checkUpload(upload: UploadDraft, limits: UploadLimits): KeepsakeError | undefined;
  /** Checks that a file's content is what its name says, as completing the upload will. */
  checkContent(file: File, limits: Pick<Limits, "max_image_pixels">): Promise<FileProblem[]>;
  /** Any text made a safe file name. */
  sanitizeFileName(name: string): string;
  /** The media type that a file name's extension stands for, if it is a known one. */
  mediaType(name: string): string | undefined;
  /**
   * The `accept` of a file input: every extension that may be uploaded, by the limits of the deployment
   * or by the usual ones. Nothing where files of any kind may be.
   */
  accept(limits?: Partial<Pick<Limits, "file_types">>): string | undefined;
  /** The media type that the first bytes of a file show, if any. */
  sniff(firstBytes: Uint8Array): string | undefined;
  /** The bytes of part `number`, counted from 1; nothing for a number that no part has. */
  partBytes(fileBytes: number, partBytes: number, number: number): number | undefined;
  /** The SHA-256 of a file of any size, in hexadecimal, read piece by piece. */
  sha256(file: Blob, options?: ReadOptions): Promise<string>;
  /** The checksum of a part, in base64. */
  checksum(kind: ChecksumKind, part: Blob, options?: ReadOptions): Promise<string>;
}

/** The limits by which an upload is checked. */
export type UploadLimits = Pick<Limits, "max_files" | "max_file_bytes" | "max_set_bytes"> &
  Partial<Pick<Limits, "file_types" | "number_duplicates">>;

/** Where the WebAssembly is: its address, a fetched answer, its bytes, or the compiled module. */
export type RulesSource = string | URL | Response | BufferSource | WebAssembly.Module;

/** Bytes read at once. Hashing them takes less than a frame on the screen. */
const PIECE_BYTES = 2 * 1024 * 1024;

/** Stands for a SHA-256 that is not known yet. */
const WELL_FORMED_SHA256 = "0".repeat(64);

/**
 * Loads the rules, once however often it is called. Without a source they are fetched from beside
 * this module (`wasm/keepsake_rules_bg.wasm`); bundlers that know `new URL(…, import.meta.url)` put
 * them there. A content security policy has to allow `'wasm-unsafe-eval'` for scripts.
 */
export async function loadRules(source?: RulesSource): Promise<Rules> {
  await init(source === undefined ? undefined : { module_or_path: source });
  return rules;
}

const rules: Rules = {
  checkUpload(upload, { max_files, max_file_bytes, max_set_bytes, file_types, number_duplicates }) {
    const files = upload.files.map((file) => ({ sha256: WELL_FORMED_SHA256, ...file }));
    // What is undefined is left out, and then has its default.
    const limits = { max_files, max_file_bytes, max_set_bytes, file_types, number_duplicates };
    const problem = wasm.checkUpload(JSON.stringify({ ...upload, files }), JSON.stringify(limits));
    return problem === undefined ? undefined : new KeepsakeError(JSON.parse(problem) as Problem);
  },
  async checkContent(file, limits) {
    const content = new wasm.Content(file.name, file.size);
    for (let piece = content.step(); piece !== undefined; piece = content.step()) {
      content.add(await bytes(file.slice(piece.offset, piece.offset + piece.length)));
    }
    const problems = content.problems(limits.max_image_pixels);
    content.free();
    return JSON.parse(problems) as FileProblem[];
  },
  sanitizeFileName: wasm.sanitizeFileName,
  mediaType: wasm.mediaType,
  accept: (limits = {}) => wasm.accept(limits.file_types ?? ""),
  sniff: wasm.sniff,
  partBytes: wasm.partBytes,
  async sha256(file, options = {}) {
    return (await read(file, new wasm.Sha256(), options)).hex();
  },
  async checksum(kind, part, options = {}) {
    const hasher = kind === "sha256" ? new wasm.Sha256() : new wasm.Crc32c();
    return (await read<wasm.Sha256 | wasm.Crc32c>(part, hasher, options)).base64();
  },
};

async function bytes(piece: Blob): Promise<Uint8Array> {
  return new Uint8Array(await piece.arrayBuffer());
}

/** Feeds a file to a hasher, piece by piece. */
async function read<H extends { update(chunk: Uint8Array): void }>(
  file: Blob,
  hasher: H,
  { onProgress, signal }: ReadOptions,
): Promise<H> {
  for (let offset = 0; offset < file.size; offset += PIECE_BYTES) {
    signal?.throwIfAborted();
    hasher.update(await bytes(file.slice(offset, offset + PIECE_BYTES)));
    onProgress?.(Math.min(offset + PIECE_BYTES, file.size));
  }
  return hasher;
}
