// What Uppy asks before each request to the store: where it goes, and with which headers. Identity is
// the server's: Uppy's key only says which file is meant.

import type { EntityRef, Keepsake, Rules, Upload } from "keepsake-client";
import { bytesOf, type Declared, declare, type KeepsakeFile } from "./set";

/** URLs are signed anew after this time; they work for a quarter of an hour. */
const FRESH_MS = 10 * 60_000;

/** One request of Uppy's, named by its method and by what else it says. */
interface Request {
  readonly method: "PUT" | "GET" | "POST" | "DELETE";
  readonly key: string;
  readonly uploadId?: string;
  readonly partNumber?: number;
}

interface Target {
  readonly url: string;
  readonly headers: Record<string, string>;
}

interface Given {
  readonly keepsake: Keepsake;
  readonly rules: Rules;
  readonly entity: EntityRef;
  readonly token: string;
  /** A file by Uppy's id, also one that Uppy has just forgotten. */
  readonly fileOf: (id: string) => KeepsakeFile | undefined;
  /** All files of a set, in the order of its declaration. */
  readonly filesOf: (upload: string) => KeepsakeFile[];
}

export class Signer {
  readonly #given: Given;
  readonly #signed = new Map<string, { at: number; upload: Promise<Upload> }>();

  constructor(given: Given) {
    this.#given = given;
  }

  readonly sign = async (request: Request): Promise<Target> => {
    const file = this.#given.fileOf(request.key);
    const declared = file?.meta.declared;
    if (!file || !declared) throw new Error("This file was not declared.");
    const upload = `/v1/uploads/${declared.upload}`;
    const asS3 = `${upload}/multipart/${declared.attachment}`;
    const headers = { authorization: `Bearer ${this.#given.token}` };
    switch (request.method) {
      case "PUT":
        return request.partNumber === undefined
          ? this.#whole(declared)
          : this.#part(file, declared, request.partNumber);
      case "GET":
        return { url: asS3, headers };
      case "POST":
        return { url: `${asS3}?${request.uploadId ? `uploadId=${request.uploadId}` : "uploads"}`, headers };
      case "DELETE":
        // A file is aborted with its set.
        return { url: upload, headers };
    }
  };

  /** Takes the URLs of a set that has just been declared. */
  remember(upload: Upload): void {
    this.#signed.set(upload.id, { at: Date.now(), upload: Promise.resolve(upload) });
  }

  async #whole({ upload, key, index }: Declared): Promise<Target> {
    const target = (await this.#fresh(upload, key)).files[index];
    if (!target || !("url" in target)) throw new Error("This file is uploaded in parts.");
    return { url: target.url, headers: target.headers };
  }

  #fresh(id: string, key: string): Promise<Upload> {
    const known = this.#signed.get(id);
    if (known && Date.now() - known.at < FRESH_MS) return known.upload;
    const { keepsake, entity, filesOf } = this.#given;
    const files = filesOf(id);
    const sha256 = files.map((file) => file.meta.declared?.sha256 ?? "");
    const upload = declare(keepsake, entity, files, sha256, key);
    this.#signed.set(id, { at: Date.now(), upload });
    upload.catch(() => this.#signed.delete(id));
    return upload;
  }

  async #part(file: KeepsakeFile, declared: Declared, number: number): Promise<Target> {
    const { keepsake, rules } = this.#given;
    const partSize = declared.partSize ?? 0;
    const bytes = bytesOf(file).slice((number - 1) * partSize, number * partSize);
    const checksum = declared.checksum && { checksum: await rules.checksum(declared.checksum, bytes) };
    const signed = await keepsake.uploads.signParts(declared.upload, {
      attachment_id: declared.attachment,
      parts: [{ number, ...checksum }],
    });
    const [part] = signed.parts;
    if (!part) throw new Error("No part was signed.");
    return { url: part.url, headers: part.headers };
  }
}
