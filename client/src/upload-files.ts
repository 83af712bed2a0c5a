import { KeepsakeError } from "./error.js";
import type {
  Attachment,
  Completed,
  EntityRef,
  Keepsake,
  Limits,
  Upload,
  UploadRequest,
} from "./keepsake.js";
import { put } from "./put.js";
import { BYTES, OFFLINE, repeat } from "./repeat.js";
import { loadRules, type Rules } from "./rules.js";

/** How far an upload is. */
export interface UploadProgress {
  /** `checking` reads and hashes the files, `uploading` sends them, `completing` makes them visible. */
  phase: "checking" | "uploading" | "completing";
  /** Bytes of this phase that are done. */
  loaded: number;
  /** All bytes. */
  total: number;
  /** The same of each file, in the order they were given. */
  files: readonly { name: string; loaded: number; total: number }[];
}

export interface UploadFilesOptions {
  /** What the files belong to. */
  entity: EntityRef;
  /** The files; they become visible together or not at all. */
  files: readonly File[];
  /** Told whenever there is something new. */
  onProgress?: (progress: UploadProgress) => void;
  /** Gives the upload up. */
  signal?: AbortSignal;
  /**
   * Told what was declared, once, before anything is sent. Whoever keeps it, as JSON, can go on later with `resume`, after
   * a reload too. So a set that fails is left open; `signal` gives it up.
   */
  onDeclared?: (upload: Upload) => void;
  /** Goes on with a set that was declared before, of the same files in the same order: parts that are stored are not sent again. */
  resume?: Upload;
  /** The rules, if they are loaded already or have to be loaded in a special way. */
  rules?: Rules;
  /** The attachment of which the file, a single one, becomes a new version: see {@link uploadVersion}. */
  replaces?: Attachment;
}

/** What {@link uploadVersion} is told. */
export interface UploadVersionOptions extends Omit<UploadFilesOptions, "entity" | "files" | "replaces"> {
  /** The attachment, as it was seen: if another version is current by now, nothing is sent. */
  attachment: Attachment;
  /** The new content. Its name becomes the attachment's. */
  file: File;
}

/** Requests that send bytes at the same time. */
const SIDE_BY_SIDE = 3;

/**
 * Checks, declares, sends and completes a set of files; what it answers with is visible to
 * everybody. When it fails or is aborted, none is, and what was sent is removed. Small files go with one request, unless
 * `onDeclared` is given.
 *
 * Names are cleaned first, as the server's own `sanitize_filename` cleans them.
 */
export async function uploadFiles(keepsake: Keepsake, options: UploadFilesOptions): Promise<Completed> {
  const { entity, files, onProgress, onDeclared, resume, replaces, signal: given } = options;
  const stop = new AbortController();
  const signal = given === undefined ? stop.signal : AbortSignal.any([given, stop.signal]);
  const rules = options.rules ?? (await loadRules());
  const named = files.map((file) => withName(file, rules.sanitizeFileName(file.name)));
  const meter = new Meter(named, onProgress);

  if (resume !== undefined) sameFiles(resume, named);
  const upload = resume ?? (await begun());
  if ("attachments" in upload) return upload;

  async function begun(): Promise<Upload | Completed> {
    const limits = await allowed(keepsake, rules, entity, named, signal);
    const request = await hashed(rules, entity, named, meter, signal);
    // Who is told what was declared may go on with it later, which one request cannot.
    const isAtOnce = onDeclared === undefined && replaces === undefined && isSmall(named, limits);
    const done = isAtOnce && (await atOnce(keepsake, entity, named, request, meter, signal));
    if (done) return done;
    if (replaces === undefined) return keepsake.uploads.declare(request, { signal });
    const version = { signal, ifVersion: replaces.version };
    return keepsake.attachments.declareVersion(replaces.id, { files: request.files }, version);
  }
  if (resume === undefined) onDeclared?.(upload);
  try {
    const isOpen =
      resume === undefined || (await keepsake.uploads.status(upload.id, { signal })).state === "pending";
    if (isOpen) {
      meter.begin("uploading");
      const tasks: Task[] = [];
      for (const [index, target] of wholeFilesFirst(upload)) {
        const file = named[index] ?? new File([], "");
        const sending = { keepsake, rules, upload, target, file, signal, meter: meter.of(index) };
        tasks.push(...sendTasks(sending, resume && (await storedParts(sending))));
      }
      await sideBySide(tasks);
    }
    meter.begin("completing");
    // Also tells what became of a set whose completion was not answered.
    return await repeat(() => keepsake.uploads.complete(upload.id, { signal }), signal, OFFLINE);
  } catch (error) {
    // The others need not go on.
    stop.abort(error);
    const mayGoOn = (onDeclared !== undefined || resume !== undefined) && !given?.aborted;
    // What holds room in the quota is given back; where that fails, too, it runs out by itself.
    if (!mayGoOn)
      await keepsake.uploads.abort(upload.id, { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
    throw error;
  }
}

/**
 * Uploads a new version of an attachment. Readers get the current one until it is complete, and it stays in the history. If another became
 * current meanwhile, this fails with `precondition_failed` or `version_conflict`, and nothing changes.
 */
export async function uploadVersion(
  keepsake: Keepsake,
  { attachment, file, ...options }: UploadVersionOptions,
): Promise<Completed> {
  const entity = { type: attachment.entity_type, id: attachment.entity_id };
  return uploadFiles(keepsake, { ...options, entity, files: [file], replaces: attachment });
}

/**
 * What one request may not hold or has no time or no room for, and what a proxy in between does not let through: a signed PUT for
 * each file may.
 */
const NOT_AT_ONCE: readonly number[] = [405, 408, 413, 415, 429];

/** Whether these files fit into one request. A server of before does not say how much does. */
function isSmall(files: readonly File[], limits: Partial<Limits>): boolean {
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return bytes <= (limits.inline_max_bytes ?? 0);
}

/** Sends small files with one request; nothing when they have to be sent otherwise. */
async function atOnce(
  keepsake: Keepsake,
  entity: EntityRef,
  files: readonly File[],
  declared: UploadRequest,
  meter: Meter,
  signal: AbortSignal,
): Promise<Completed | undefined> {
  meter.begin("uploading");
  const sha256 = declared.files.map((file) => file.sha256);
  // For all tries one key, so that nothing is stored twice.
  const options = { signal, idempotencyKey: crypto.randomUUID(), sha256 };
  try {
    const done = await repeat(() => keepsake.uploads.attach(entity, files, options), signal, OFFLINE);
    for (const [index, { size }] of files.entries()) meter.of(index)(size);
    meter.begin("completing");
    return done;
  } catch (error) {
    // What takes bodies for text would change the bytes.
    const isOfThisWay = ({ status, errors }: KeepsakeError) =>
      NOT_AT_ONCE.includes(status) || errors.some(({ code }) => code === "sha256_mismatch");
    if (error instanceof KeepsakeError && isOfThisWay(error)) return undefined;
    throw error;
  }
}

/** The URL of a whole file runs out sooner than the set, those of parts are signed when they are needed. */
function wholeFilesFirst(upload: Upload): [number, Upload["files"][number]][] {
  const files = [...upload.files.entries()];
  const isWhole = ([, target]: (typeof files)[number]) => !("multipart" in target);
  return [...files.filter(isWhole), ...files.filter((entry) => !isWhole(entry))];
}

/** Whoever goes on must have the files that were declared. Their bytes are compared by the store. */
function sameFiles(upload: Upload, files: readonly File[]): void {
  if (upload.files.length !== files.length) {
    throw new TypeError(`${upload.files.length} files were declared, and ${files.length} are given`);
  }
}

/** The parts of a file that the store has. */
async function storedParts({ keepsake, upload, target, signal }: Sending): Promise<Map<number, number>> {
  if (!("multipart" in target)) return new Map();
  const { parts } = await keepsake.uploads.listParts(upload.id, target.attachment_id, { signal });
  return new Map(parts.map(({ number, size }) => [number, size]));
}

function drafted(entity: EntityRef, files: readonly File[]) {
  return {
    entity_type: entity.type,
    entity_id: entity.id,
    files: files.map(({ name, type, size }) => ({ name, media_type: type, size })),
  };
}

/** The limits, once nothing is wrong with the files. */
async function allowed(
  keepsake: Keepsake,
  rules: Rules,
  entity: EntityRef,
  files: readonly File[],
  signal: AbortSignal,
): Promise<Limits> {
  const limits = await keepsake.limits({ signal, entity_type: entity.type });
  const refusal =
    rules.checkUpload(drafted(entity, files), limits) ?? (await contentRefusal(rules, files, limits));
  if (refusal !== undefined) throw refusal;
  return limits;
}

/** The request that declares the files. */
async function hashed(
  rules: Rules,
  entity: EntityRef,
  files: readonly File[],
  meter: Meter,
  signal: AbortSignal,
): Promise<UploadRequest> {
  const draft = drafted(entity, files);
  meter.begin("checking");
  const declared = [];
  for (const [index, file] of draft.files.entries()) {
    const content = files[index] ?? new Blob();
    const sha256 = await rules.sha256(content, { onProgress: meter.of(index), signal });
    declared.push({ ...file, sha256 });
  }
  return { ...draft, files: declared };
}

/** The refusal that the files' content would meet in the end. */
async function contentRefusal(
  rules: Rules,
  files: readonly File[],
  limits: { max_image_pixels: number },
): Promise<KeepsakeError | undefined> {
  const errors = [];
  for (const [index, file] of files.entries()) {
    const problems = await rules.checkContent(file, limits);
    errors.push(...problems.map((problem) => ({ pointer: `/files/${index}`, ...problem })));
  }
  if (errors.length === 0) return undefined;
  return new KeepsakeError({
    code: "upload_rejected",
    status: 0,
    title: "The upload was rejected",
    detail: "A file does not match its name, so nothing was sent.",
    errors,
  });
}

interface Sending {
  keepsake: Keepsake;
  rules: Rules;
  upload: Upload;
  target: Upload["files"][number];
  file: File;
  meter: (bytes: number) => void;
  signal: AbortSignal;
}

type Task = () => Promise<void>;

/** What is to be done to send one file. */
function sendTasks(sending: Sending, stored: ReadonlyMap<number, number> = new Map()): Task[] {
  const { target, file, meter, signal } = sending;
  if ("multipart" in target) return partTasks(sending, target.attachment_id, target.multipart, stored);
  return [() => repeat(() => put(target, file, { onProgress: meter, signal }), signal, BYTES)];
}

function partTasks(
  { keepsake, rules, upload, file, meter, signal }: Sending,
  attachmentId: string,
  plan: { part_size: number; part_count: number; checksum: "sha256" | "crc32c" | null },
  stored: ReadonlyMap<number, number>,
): Task[] {
  const sent = Array.from({ length: plan.part_count }, (_, index) => stored.get(index + 1) ?? 0);
  const tell = () => meter(sent.reduce((sum, one) => sum + one, 0));
  tell();
  const missing = [...sent.keys()].filter((index) => !stored.has(index + 1));
  return missing.map((index) => async () => {
    const body = file.slice(index * plan.part_size, (index + 1) * plan.part_size);
    const checksum = plan.checksum && { checksum: await rules.checksum(plan.checksum, body, { signal }) };
    const part = { number: index + 1, ...checksum };
    const onProgress = (bytes: number) => {
      sent[index] = bytes;
      tell();
    };
    // Signed anew each time: a URL may have run out while the part waited.
    const send = async () => {
      const request = { attachment_id: attachmentId, parts: [part] };
      const signed = await keepsake.uploads.signParts(upload.id, request, { signal });
      for (const target of signed.parts) await put(target, body, { onProgress, signal });
    };
    await repeat(send, signal, BYTES);
  });
}

/** Does all tasks, a few at a time; the first that fails ends it. */
async function sideBySide(tasks: readonly Task[]): Promise<void> {
  const rest = tasks.values();
  const worker = async () => {
    for (const task of rest) await task();
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
}

/** Adds up what the files report. */
class Meter {
  readonly #files: { name: string; loaded: number; total: number }[];
  readonly #report: ((progress: UploadProgress) => void) | undefined;
  #phase: UploadProgress["phase"] = "checking";

  constructor(files: readonly File[], report: ((progress: UploadProgress) => void) | undefined) {
    this.#files = files.map(({ name, size }) => ({ name, loaded: 0, total: size }));
    this.#report = report;
  }

  begin(phase: UploadProgress["phase"]): void {
    this.#phase = phase;
    for (const file of this.#files) file.loaded = phase === "completing" ? file.total : 0;
    this.#tell();
  }

  /** Takes what is done of one file. */
  of(index: number): (bytes: number) => void {
    return (bytes) => {
      const file = this.#files[index];
      // What is sent again is not told again.
      if (file === undefined || file.loaded >= bytes) return;
      file.loaded = bytes;
      this.#tell();
    };
  }

  #tell(): void {
    const sum = (pick: "loaded" | "total") => this.#files.reduce((all, one) => all + one[pick], 0);
    this.#report?.({
      phase: this.#phase,
      loaded: sum("loaded"),
      total: sum("total"),
      files: this.#files.map((file) => ({ ...file })),
    });
  }
}

function withName(file: File, name: string): File {
  return file.name === name ? file : new File([file], name, { type: file.type });
}
