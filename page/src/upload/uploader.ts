// Uppy, unmodified, with Keepsake's words around it: before it sends anything, the rules and the
// declaration of the set; after it has sent all, the completion.

import AwsS3 from "@uppy/aws-s3";
import Uppy from "@uppy/core";
import coreStyle from "@uppy/core/css/style.min.css";
import Dashboard from "@uppy/dashboard";
import dashboardStyle from "@uppy/dashboard/css/style.min.css";
import GoldenRetriever from "@uppy/golden-retriever";
import {
  type EntityRef,
  type Keepsake,
  KeepsakeError,
  type Limits,
  loadRules,
  type Rules,
} from "keepsake-client";
import rulesAddress from "keepsake-client/rules.wasm";
import { counted, list, size } from "../format";
import { isMissing } from "../keepsake";
import type { Session } from "../session";
import { inOneLine } from "../words";
import { declare, draft, type FileMeta, type FileProblem, type KeepsakeFile, kept, read } from "./set";
import { Signer } from "./signer";

export interface UploaderOptions {
  readonly keepsake: Keepsake;
  readonly session: Session;
  readonly entity: EntityRef;
  readonly target: HTMLElement;
  /** What is wrong, to be shown until it is settled. */
  readonly onTrouble: (trouble: Trouble | undefined) => void;
  /** What has been done, and whether there is something new to be seen. */
  readonly onDone: (text: string, isNew: boolean) => void;
}

export interface Trouble {
  readonly summary: string;
  readonly files: readonly FileProblem[];
}

/** Uploads for one entity: loads the rules and the limits, shows the dashboard, and gives what ends it. */
export async function createUploader(options: UploaderOptions): Promise<() => void> {
  const [rules, limits] = await Promise.all([
    loadRules(rulesAddress),
    options.keepsake.limits({ entity_type: options.entity.type }),
    addStyle(coreStyle),
    addStyle(dashboardStyle),
  ]);
  const uploader = new Uploader(options, rules, limits);
  return () => uploader.close();
}

/** The store has the object already: an earlier attempt arrived, and only its answer was lost. */
const STORED_ALREADY = 412;

/** After these a set is no more, and its files have to be declared anew. */
const OVER: ReadonlySet<string> = new Set([
  "upload_rejected",
  "upload_expired",
  "upload_closed",
  "not_found",
]);

/** What fails is shown to the person; the console is nobody's. */
const QUIET = { debug: () => {}, warn: () => {}, error: () => {} };

class Uploader {
  // biome-ignore lint/suspicious/noExplicitAny: no answer of a store is read
  readonly #uppy: Uppy<FileMeta, any>;
  readonly #signer: Signer;
  readonly #options: UploaderOptions;
  readonly #rules: Rules;
  readonly #limits: Limits;
  /** Files that Uppy has just forgotten: requests for them are still to be signed. */
  readonly #cancelled = new Map<string, KeepsakeFile>();
  readonly #lists: MutationObserver;

  constructor(options: UploaderOptions, rules: Rules, limits: Limits) {
    this.#options = options;
    this.#rules = rules;
    this.#limits = limits;
    const { session, entity, keepsake } = options;
    this.#signer = new Signer({
      keepsake,
      rules,
      entity,
      token: session.token,
      fileOf: (id) => this.#uppy.getFile(id) ?? this.#cancelled.get(id),
      filesOf: (upload) => this.#filesOf(upload),
    });
    this.#uppy = new Uppy({
      // What is kept over a reload is this person's, for this entity.
      id: [session.tenant, session.user, entity.type, entity.id].map(encodeURIComponent).join("/"),
      // None where files of any kind may be added.
      restrictions: { allowedFileTypes: rules.accept(limits)?.split(",") ?? null },
      onBeforeFileAdded: (file, files) => this.#admit(file, files),
      logger: QUIET,
    });
    this.#install();
    // A set goes on as a whole, or is cancelled as a whole.
    const { capabilities } = this.#uppy.getState();
    this.#uppy.setState({ capabilities: { ...capabilities, individualCancellation: false } });
    this.#uppy.addPreProcessor((ids) => this.#declare(ids));
    this.#uppy.addPostProcessor((ids) => this.#complete(ids));
    this.#uppy.on("upload-error", this.#settle);
    this.#uppy.on("cancel-all", this.#abort);
    this.#uppy.on("dashboard:file-edit-complete", this.#rename);
    this.#uppy.on("restored", () => void this.#reconcile());
    this.#lists = mendLists(options.target);
    addEventListener("online", this.#goOn);
    document.addEventListener("paste", this.#paste);
  }

  #install(): void {
    const { max_files, max_file_bytes, max_set_bytes } = this.#limits;
    this.#uppy
      .use(Dashboard, {
        target: this.#options.target,
        inline: true,
        width: "100%",
        // As high as what is in it: nothing scrolls within the page.
        height: "auto",
        singleFileFullScreen: false,
        theme: "auto",
        proudlyDisplayPoweredByUppy: false,
        // What it would say is said beside it, and stays there.
        disableInformer: true,
        metaFields: [{ id: "name", name: "Name" }],
        note: `Up to ${counted(max_files, "file")} at once, ${size(max_file_bytes)} each, ${size(max_set_bytes)} in total.`,
        locale: { strings: { dashboardTitle: "Files to add", removeFile: "Remove %{file}" } },
      })
      .use(AwsS3, {
        shouldUseMultipart: ({ meta }) => typeof (meta as FileMeta).declared?.partSize === "number",
        getChunkSize: ({ size }) => this.#partSizeOf(size),
        generateObjectKey: ({ id }) => id,
        signRequest: this.#signer.sign,
        limit: 3,
      })
      .use(GoldenRetriever, {
        // Its own bounds are made for pictures; these are the deployment's.
        indexedDB: { maxFileSize: max_file_bytes, maxTotalSize: 2 * max_set_bytes } as object,
      });
  }

  close(): void {
    this.#lists.disconnect();
    removeEventListener("online", this.#goOn);
    document.removeEventListener("paste", this.#paste);
    // What is under way is kept, to be gone on with when somebody comes back here.
    this.#uppy.destroy();
  }

  /** Refuses at once what the rules refuse of one file by itself, and cleans its name. */
  #admit(file: KeepsakeFile, files: Record<string, KeepsakeFile>): KeepsakeFile | boolean {
    const name = this.#rules.sanitizeFileName(file.name ?? "");
    const named = { ...file, name, meta: { ...file.meta, name } };
    const isAgain = Object.hasOwn(files, file.id) && !files[file.id]?.isGhost;
    if (isAgain) return false;
    const refusal = this.#rules.checkUpload(draft(this.#options.entity, [named]), this.#limits);
    this.#options.onTrouble(
      refusal && { summary: `${file.name} was not accepted.`, files: problemsOf(refusal, [named]) },
    );
    return refusal ? false : named;
  }

  /** Gives a file another name before it is declared: cleaned, and checked as if it were added under it. */
  readonly #rename = (file: KeepsakeFile | undefined): void => {
    if (!file || file.meta.name === file.name) return;
    const renamed = { ...file, name: this.#rules.sanitizeFileName(file.meta.name ?? "") };
    const refusal = this.#rules.checkUpload(draft(this.#options.entity, [renamed]), this.#limits);
    const name = refusal || file.meta.declared ? file.name : renamed.name;
    this.#uppy.setFileMeta(file.id, { name });
    this.#uppy.setFileState(file.id, { name });
    this.#options.onTrouble(
      refusal && { summary: `${file.name} was not renamed.`, files: problemsOf(refusal, [renamed]) },
    );
  };

  /** Before anything is sent: the rules, the digests, and one declaration for all. */
  async #declare(ids: readonly string[]): Promise<void> {
    this.#options.onTrouble(undefined);
    const files = ids.map((id) => this.#uppy.getFile(id)).filter((file) => file && !file.meta.declared);
    if (files.length === 0) return;
    const { entity, keepsake } = this.#options;
    try {
      const refusal = this.#rules.checkUpload(draft(entity, files), this.#limits);
      if (refusal) throw refusal;
      const { problems, sha256 } = await read(this.#rules, this.#limits, files, (file, value) =>
        this.#uppy.emit("preprocess-progress", file, { mode: "determinate", message: "Checking", value }),
      );
      if (problems.length > 0) {
        const summary = "A file does not match its name, so nothing was sent.";
        return this.#refuse(files, { summary, files: problems });
      }
      const key = crypto.randomUUID();
      const upload = await declare(keepsake, entity, files, sha256, key);
      this.#signer.remember(upload);
      for (const [index, declared] of kept(upload, sha256, key).entries()) {
        const id = files[index]?.id;
        if (id !== undefined) this.#uppy.setFileMeta(id, { declared });
      }
    } catch (error) {
      this.#refuse(files, { summary: summaryOf(error), files: problemsOf(error, files) });
    } finally {
      for (const { id } of files) {
        const file = this.#uppy.getFile(id);
        if (file) this.#uppy.emit("preprocess-complete", file);
      }
    }
  }

  /** After all is sent: the sets that have all their files become visible, or it is said why not. */
  async #complete(ids: readonly string[]): Promise<void> {
    const uploads = new Set(ids.map((id) => this.#uppy.getFile(id)?.meta.declared?.upload));
    for (const upload of uploads) {
      if (upload !== undefined) await this.#completeSet(upload);
    }
  }

  async #completeSet(upload: string): Promise<void> {
    const files = this.#filesOf(upload);
    const missing = files.filter((file) => !file.progress.uploadComplete || file.error);
    if (missing.length > 0) {
      const names = list(missing.map((file) => file.name ?? ""));
      const all = files.length === 1 ? "it has not" : `none of the ${files.length} has`;
      const summary = `${names} could not be sent, so ${all} been added yet. Retry continues where it stopped.`;
      return this.#options.onTrouble({ summary, files: [] });
    }
    for (const file of files) {
      this.#uppy.emit("postprocess-progress", file, {
        mode: "indeterminate",
        message: "Checking the uploaded files",
      });
    }
    try {
      const { state } = await this.#options.keepsake.uploads.complete(upload);
      this.#finish(files, state === "scanning");
    } catch (error) {
      if (error instanceof KeepsakeError && OVER.has(error.code)) this.#startOver(files);
      this.#refuse(files, { summary: summaryOf(error), files: problemsOf(error, files) });
    }
  }

  #finish(files: readonly KeepsakeFile[], isScanning: boolean): void {
    const all = files.length === 1 ? (files[0]?.name ?? "") : `All ${counted(files.length, "file")}`;
    const isAre = files.length === 1 ? "is" : "are";
    this.#options.onTrouble(undefined);
    this.#options.onDone(
      isScanning
        ? `${all} ${isAre} being scanned for malware, and will be available when found clean.`
        : `${all} ${isAre} added.`,
      true,
    );
    const ids = files.map(({ id }) => id);
    // Once Uppy has done with them itself.
    this.#uppy.once("complete", () => this.#uppy.removeFiles(ids.filter((id) => this.#uppy.getFile(id))));
  }

  /** After a reload: what the server knows of the sets that were kept counts. */
  async #reconcile(): Promise<void> {
    const uploads = new Set(this.#uppy.getFiles().flatMap(({ meta }) => meta.declared?.upload ?? []));
    for (const upload of uploads) {
      try {
        const { state } = await this.#options.keepsake.uploads.status(upload);
        if (state === "pending") continue;
        const files = this.#filesOf(upload);
        if (state === "completed") this.#uppy.removeFiles(files.map(({ id }) => id));
        else this.#startOver(files);
      } catch (error) {
        if (isMissing(error)) this.#startOver(this.#filesOf(upload));
        // Else it is found out when the upload goes on.
      }
    }
  }

  /** Nothing of a set goes on: it is shown on each of its files, and said beside them why. */
  #refuse(files: readonly KeepsakeFile[], trouble: Trouble): void {
    for (const { id, name } of files) {
      const own = trouble.files.filter((problem) => problem.name === name).map(({ detail }) => detail);
      this.#uppy.setFileState(id, { error: own.join(" ") || trouble.summary });
    }
    this.#uppy.setState({ error: trouble.summary });
    this.#options.onTrouble(trouble);
  }

  /** As if they had never been declared. */
  #startOver(files: readonly KeepsakeFile[]): void {
    for (const { id, progress } of files) {
      this.#uppy.setFileMeta(id, { declared: undefined });
      this.#uppy.setFileState(id, {
        progress: {
          bytesTotal: progress.bytesTotal,
          percentage: 0,
          bytesUploaded: false,
          uploadComplete: false,
          uploadStarted: null,
        },
      });
    }
  }

  readonly #settle = (file: KeepsakeFile | undefined, error: { name: string; message: string }): void => {
    if (!file || !("status" in error) || error.status !== STORED_ALREADY) return;
    this.#uppy.setFileState(file.id, { error: null });
    this.#uppy.setState({ error: null });
    this.#uppy.emit("upload-success", file, { status: STORED_ALREADY });
  };

  /** Gives up every set that is under way: nothing of it becomes visible, and its bytes go. */
  readonly #abort = (): void => {
    const files = this.#uppy.getFiles();
    for (const file of files) this.#cancelled.set(file.id, file);
    const uploads = new Set(files.flatMap(({ meta }) => (meta.declared ? [meta.declared.upload] : [])));
    for (const upload of uploads) {
      // Where this fails too, the server gives it up when its time has run out.
      this.#options.keepsake.uploads.abort(upload).catch(() => undefined);
    }
    this.#options.onTrouble(undefined);
    if (uploads.size > 0) this.#options.onDone("Cancelled: none of the files was added.", false);
  };

  /** Back from being offline: what failed is tried again. */
  readonly #goOn = (): void => {
    if (this.#uppy.getFiles().some((file) => file.error)) void this.#uppy.retryAll();
  };

  /** Files that are pasted anywhere but into a field, or into the dashboard, which takes its own. */
  readonly #paste = ({ target, clipboardData }: ClipboardEvent): void => {
    if (target instanceof Element && target.closest("input, textarea, .uppy-Root")) return;
    for (const file of clipboardData?.files ?? []) {
      this.#uppy.addFile({ source: "paste", name: file.name, type: file.type, data: file });
    }
  };

  #filesOf(upload: string): KeepsakeFile[] {
    const place = ({ meta }: KeepsakeFile) => meta.declared?.index ?? 0;
    const files = this.#uppy.getFiles().filter(({ meta }) => meta.declared?.upload === upload);
    return files.sort((a, b) => place(a) - place(b));
  }

  /** Uppy asks by size alone; files of one size are cut alike. */
  #partSizeOf(bytes: number): number {
    const file = this.#uppy.getFiles().find((one) => one.size === bytes && one.meta.declared?.partSize);
    return file?.meta.declared?.partSize ?? bytes;
  }
}

function summaryOf(error: unknown): string {
  const isOfFiles = error instanceof KeepsakeError && error.errors.length > 0;
  // What is wrong with each is said below.
  return isOfFiles ? `${error.title}. None of the files was added.` : inOneLine(error);
}

function problemsOf(error: unknown, files: readonly Pick<KeepsakeFile, "name">[]): FileProblem[] {
  if (!(error instanceof KeepsakeError)) return [];
  return files.flatMap(({ name }, index) =>
    error.ofFile(index).map(({ detail }) => ({ name: name ?? "", detail })),
  );
}

/** Uppy's list of a single file is no list to a screen reader, though its entry is that of one. */
function mendLists(target: HTMLElement): MutationObserver {
  const mend = new MutationObserver(() => {
    for (const list of target.querySelectorAll(".uppy-Dashboard-files:not([role])")) list.role = "list";
  });
  mend.observe(target, { childList: true, subtree: true });
  return mend;
}

/** Adds a style sheet to the page, once; done when it applies. */
function addStyle(address: string): Promise<void> {
  if (document.querySelector(`link[href="${address}"]`)) return Promise.resolve();
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  return new Promise((resolve, reject) => {
    link.onload = () => resolve();
    link.onerror = () => reject(new Error("A style sheet could not be loaded."));
    document.head.append(link);
  });
}
