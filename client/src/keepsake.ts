import createClient from "openapi-fetch";

import { content, cursor, done, own } from "./answer.js";
import { KeepsakeError } from "./error.js";
import type { components, operations, paths } from "./openapi.js";
import { type TokenSource, transport, whole } from "./transport.js";

type Schemas = components["schemas"];

/** Declares an upload. */
export type UploadRequest = Schemas["UploadRequest"];
/** One file of it. */
export type FileDeclaration = Schemas["FileDeclaration"];
/** A declared upload, with the signed request for each file. */
export type Upload = Schemas["Upload"];
/** An upload's state. */
export type UploadStatus = Schemas["UploadStatus"];
/** The attachments of a completed upload. */
export type Completed = Schemas["Completed"];
/** The parts to sign. */
export type PartsRequest = Schemas["PartsRequest"];
/** Signed requests for parts. */
export type SignedParts = Schemas["SignedParts"];
/** The stored parts. */
export type StoredParts = Schemas["StoredParts"];
/** One attachment. */
export type Attachment = Schemas["Attachment"];
/** One version of an attachment. */
export type Version = Schemas["Version"];
/** A page of an attachment's history. */
export type Versions = Schemas["Versions"];
/** Declares a new version of an attachment. */
export type VersionRequest = Schemas["VersionRequest"];
/** A file from before Keepsake, which an entity names by a URL. */
export type LegacyItem = Schemas["LegacyItem"];
/** A page of a listing. */
export type Page = Schemas["Page"];
/** An entity: a row of the application that attachments can belong to. */
export type Entity = Schemas["Entity"];
/** A page of entities. */
export type Entities = Schemas["Entities"];
/** An entity or an attachment, as people call it. */
export type Item = Schemas["Item"];
/** A deletion: its root, who made it, and how long it can be restored. */
export type Deletion = Schemas["Deletion"];
/** A page of the bin. */
export type Deletions = Schemas["Deletions"];
/** A deletion with the tree of what it removed, and the conflicts of a restore. */
export type DeletionDetails = Schemas["DeletionDetails"];
/** What a restore restored. */
export type Restored = Schemas["Restored"];
/** The storage that the tenant and the caller use, and their quotas. */
export type Usage = Schemas["Usage"];
/** The limits of one upload. */
export type Limits = Schemas["Limits"];

/** How a restore handles conflicts. */
export type RestoreRequest = Schemas["RestoreRequest"];

/** Which attachments are listed, and how many on a page. */
export type AttachmentFilter = Omit<
  NonNullable<operations["listAttachments"]["parameters"]["query"]>,
  "cursor"
>;

/** Which attachments of one entity are listed, and how many on a page. */
export type EntityAttachmentFilter = Omit<
  NonNullable<operations["listEntityAttachments"]["parameters"]["query"]>,
  "cursor"
>;

/** Which entities are listed, and how many on a page. */
export type EntityFilter = Omit<NonNullable<operations["listEntities"]["parameters"]["query"]>, "cursor">;

/** Names an entity. */
export interface EntityRef {
  /** Its type, such as `post`. */
  type: string;
  /** Its id. */
  id: string;
}

/** Options of every call. */
export interface CallOptions {
  /** Aborts the call, which then fails with the signal's reason, or with an `AbortError`. */
  signal?: AbortSignal;
}

/** Options of calls that are done once for each key, however often they are sent. */
export interface OnceOptions extends CallOptions {
  /** 1 to 255 visible ASCII characters. Default: a new one for each call. */
  idempotencyKey?: string;
}

/** Options of calls that change which version of an attachment is current. */
export interface VersionOptions extends CallOptions {
  /** Do it only if this version is current; otherwise the call fails with `precondition_failed`. */
  ifVersion?: number;
}

/** Options of listings that return one page. */
export interface PageOptions extends CallOptions {
  /** The `next_cursor` of the previous page. */
  cursor?: string;
}

/** A deletion that was made. */
export interface Deleted {
  /** The deletion: see `deletions.restore`. */
  deletionId: string;
}

export interface KeepsakeOptions {
  /** The URL of Keepsake, such as `https://keepsake.example.com`. */
  url: string;
  /** Returns a bearer token; called before every request. Without it, a server in between must add the token. */
  token?: TokenSource;
  /** Used instead of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/**
 * Keepsake over HTTP. Each method is one request, and fails with a {@link KeepsakeError}. Temporary
 * failures have been retried before, with pauses.
 */
export type Keepsake = ReturnType<typeof createKeepsake>;

/** A client of the Keepsake at `url`. */
export function createKeepsake({ url, token, fetch }: KeepsakeOptions) {
  const base = url.replace(/\/+$/, "");
  // Bound late, so that a test or a page may replace the global one.
  const send = transport(token, fetch ?? ((...request) => globalThis.fetch(...request)));
  const api = createClient<paths>({
    baseUrl: base,
    fetch: (request) => send(request, (response) => whole(request, response)),
  });
  const entityPath = ({ type, id }: EntityRef) => ({ entity: type, id });
  const signedUrl = (path: string, options: CallOptions & { inline?: boolean }): Promise<string> => {
    const request = new Request(`${base}${path}?inline=${options.inline ?? false}`, {
      // A page cannot read the target of a redirect, but it can follow it and read the final URL.
      headers: { range: "bytes=0-0" },
      ...own(options),
    });
    return send(request, addressOf);
  };

  return {
    /** Uploads: files that become visible together or not at all. */
    uploads: {
      /** Declares files, and gets a signed request for each. */
      async declare(body: UploadRequest, options: OnceOptions = {}): Promise<Upload> {
        const header = { "Idempotency-Key": options.idempotencyKey ?? crypto.randomUUID() };
        return content(api.POST("/v1/uploads", { body, params: { header }, ...own(options) }));
      },
      /**
       * Stores small files with one request, and makes them visible: all, or none. Together they may have
       * `inline_max_bytes` of the limits. With `sha256`, in hexadecimal or base64 for each file, nothing that was changed
       * on the way is stored.
       */
      async attach(
        entity: EntityRef,
        files: readonly File[],
        options: OnceOptions & { sha256?: readonly string[] } = {},
      ): Promise<Completed> {
        const form = new FormData();
        for (const digest of options.sha256 ?? []) form.append("sha256", digest);
        for (const file of files) form.append("file", file, file.name);
        const header = { "Idempotency-Key": options.idempotencyKey ?? crypto.randomUUID() };
        const request = {
          params: { path: entityPath(entity), header },
          body: form as object,
          bodySerializer: () => form,
          ...own(options),
        };
        return content(api.POST("/v1/{entity}/{id}/attachments", request));
      },
      /** Gets an upload's state and the problems of its files. */
      async status(id: string, options: CallOptions = {}): Promise<UploadStatus> {
        return content(api.GET("/v1/uploads/{id}", { params: { path: { id } }, ...own(options) }));
      },
      /** Makes all files visible, or none: see `ofFile` of the error. */
      async complete(id: string, options: CallOptions = {}): Promise<Completed> {
        const params = { path: { id } };
        return content(api.POST("/v1/uploads/{id}/complete", { params, ...own(options) }));
      },
      /** Aborts an upload. */
      async abort(id: string, options: CallOptions = {}): Promise<void> {
        await done(api.DELETE("/v1/uploads/{id}", { params: { path: { id } }, ...own(options) }));
      },
      /** Signs parts of a large file, at most 100 at once. */
      async signParts(id: string, body: PartsRequest, options: CallOptions = {}): Promise<SignedParts> {
        const params = { path: { id } };
        return content(api.POST("/v1/uploads/{id}/parts", { body, params, ...own(options) }));
      },
      /** Lists the stored parts of a large file. */
      async listParts(id: string, attachmentId: string, options: CallOptions = {}): Promise<StoredParts> {
        const params = { path: { id }, query: { attachment_id: attachmentId } };
        return content(api.GET("/v1/uploads/{id}/parts", { params, ...own(options) }));
      },
    },

    /** The tenant's attachments. */
    attachments: {
      /** One page, newest first. */
      async list(filter: AttachmentFilter = {}, options: PageOptions = {}): Promise<Page> {
        const params = { query: { ...filter, ...cursor(options) } };
        return page(api.GET("/v1/attachments", { params, ...own(options) }));
      },
      /** All of them, page after page, as far as they are read. */
      all(filter: AttachmentFilter = {}, options: CallOptions = {}): AsyncGenerator<Page["items"][number]> {
        return everyItem((next) => this.list(filter, { ...options, ...next }));
      },
      /** One attachment. */
      async get(id: string, options: CallOptions = {}): Promise<Attachment> {
        const params = { path: { id } };
        return content(api.GET("/v1/attachments/{id}", { params, ...own(options) }));
      },
      /**
       * A signed URL of the bytes, for a link or the `src` of an image. It works for some minutes, for
       * whoever has it. `inline` requests that the browser show the file instead of saving it, which
       * works only for types that are safe to show.
       */
      async contentUrl(id: string, options: CallOptions & { inline?: boolean } = {}): Promise<string> {
        return signedUrl(`/v1/attachments/${encodeURIComponent(id)}/content`, options);
      },
      /** One page of an attachment's versions, newest first: the first is current. */
      async versions(
        id: string,
        filter: { limit?: number } = {},
        options: PageOptions = {},
      ): Promise<Versions> {
        const params = { path: { id }, query: { ...filter, ...cursor(options) } };
        return content(api.GET("/v1/attachments/{id}/versions", { params, ...own(options) }));
      },
      /** All of them, page after page, as far as they are read. */
      allVersions(id: string, options: CallOptions = {}): AsyncGenerator<Version> {
        return everyItem((next) => this.versions(id, {}, { ...options, ...next }));
      },
      /**
       * Declares a new version of an attachment. What follows is the same as for an upload; `uploadVersion` does all of it. Readers
       * get the current version until it is complete.
       */
      async declareVersion(
        id: string,
        body: VersionRequest,
        options: OnceOptions & VersionOptions = {},
      ): Promise<Upload> {
        const header = {
          "Idempotency-Key": options.idempotencyKey ?? crypto.randomUUID(),
          ...ifMatch(options),
        };
        const params = { path: { id }, header };
        return content(api.POST("/v1/attachments/{id}/versions", { body, params, ...own(options) }));
      },
      /** A signed URL of a version's bytes: see `contentUrl`. */
      async versionUrl(
        id: string,
        version: number,
        options: CallOptions & { inline?: boolean } = {},
      ): Promise<string> {
        return signedUrl(`/v1/attachments/${encodeURIComponent(id)}/versions/${version}/content`, options);
      },
      /** Makes a former version current again, under a new number. */
      async restoreVersion(id: string, version: number, options: VersionOptions = {}): Promise<Attachment> {
        const params = { path: { id, version }, header: ifMatch(options) };
        return content(
          api.POST("/v1/attachments/{id}/versions/{version}/restore", { params, ...own(options) }),
        );
      },
      /** Renames an attachment, live or deleted. Its extension stays. */
      async rename(id: string, name: string, options: CallOptions = {}): Promise<Attachment> {
        const request = { params: { path: { id } }, body: { name }, ...own(options) };
        return content(api.PATCH("/v1/attachments/{id}", request));
      },
      /** Deletes an attachment, so that it can be restored. */
      async delete(id: string, options: CallOptions = {}): Promise<Deleted> {
        const params = { path: { id } };
        return deleted(await done(api.DELETE("/v1/attachments/{id}", { params, ...own(options) })));
      },
      /** Restores a deleted attachment; `restore_conflict` lists the conflicts. */
      async restore(id: string, options: CallOptions = {}): Promise<Restored> {
        const params = { path: { id } };
        return content(api.POST("/v1/attachments/{id}/restore", { params, ...own(options) }));
      },
    },

    /** The entities that attachments belong to. */
    entities: {
      /** One page of the live entities of a type, newest first. */
      async list(type: string, filter: EntityFilter = {}, options: PageOptions = {}): Promise<Entities> {
        const params = { path: { entity: type }, query: { ...filter, ...cursor(options) } };
        return content(api.GET("/v1/{entity}", { params, ...own(options) }));
      },
      /** All of them, page after page, as far as they are read. */
      all(type: string, filter: EntityFilter = {}, options: CallOptions = {}): AsyncGenerator<Entity> {
        return everyItem((next) => this.list(type, filter, { ...options, ...next }));
      },
      /** One live entity. */
      async get(entity: EntityRef, options: CallOptions = {}): Promise<Entity> {
        const params = { path: entityPath(entity) };
        return content(api.GET("/v1/{entity}/{id}", { params, ...own(options) }));
      },
      /** Renames an entity, live or deleted. */
      async rename(entity: EntityRef, label: string, options: CallOptions = {}): Promise<Item> {
        const request = { params: { path: entityPath(entity) }, body: { label }, ...own(options) };
        return content(api.PATCH("/v1/{entity}/{id}", request));
      },
      /** One page of an entity's attachments: the available ones, unless `state` is given. */
      async attachments(
        entity: EntityRef,
        options: PageOptions & EntityAttachmentFilter = {},
      ): Promise<Page> {
        const { limit, state } = options;
        const filter = { ...(state && { state }), ...(limit === undefined ? {} : { limit }) };
        const params = { path: entityPath(entity), query: { ...filter, ...cursor(options) } };
        return page(api.GET("/v1/{entity}/{id}/attachments", { params, ...own(options) }));
      },
      /** All attachments of an entity, page after page, as far as they are read. */
      allAttachments(
        entity: EntityRef,
        options: CallOptions & EntityAttachmentFilter = {},
      ): AsyncGenerator<Page["items"][number]> {
        return everyItem((next) => this.attachments(entity, { ...options, ...next }));
      },
      /** Deletes an entity and everything that belongs to it, so that it can be restored. */
      async delete(entity: EntityRef, options: CallOptions = {}): Promise<Deleted> {
        const params = { path: entityPath(entity) };
        return deleted(await done(api.DELETE("/v1/{entity}/{id}", { params, ...own(options) })));
      },
      /** Restores a deleted entity and everything that was deleted with it. */
      async restore(entity: EntityRef, options: CallOptions = {}): Promise<Restored> {
        const params = { path: entityPath(entity) };
        return content(api.POST("/v1/{entity}/{id}/restore", { params, ...own(options) }));
      },
    },

    /** The bin: what was deleted and can be restored. */
    deletions: {
      /** One page, newest first. */
      async list(filter: { limit?: number } = {}, options: PageOptions = {}): Promise<Deletions> {
        const params = { query: { ...filter, ...cursor(options) } };
        return content(api.GET("/v1/deletions", { params, ...own(options) }));
      },
      /** All of them, page after page, as far as they are read. */
      all(filter: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Deletion> {
        return everyItem((next) => this.list(filter, { ...options, ...next }));
      },
      /** What one deletion removed, as a tree, and the conflicts of a restore. */
      async get(id: string, options: CallOptions = {}): Promise<DeletionDetails> {
        return content(api.GET("/v1/deletions/{id}", { params: { path: { id } }, ...own(options) }));
      },
      /**
       * Restores what one deletion removed: everything or nothing, or with `on_conflict: "skip"`
       * everything without a conflict.
       */
      async restore(id: string, body: RestoreRequest = {}, options: CallOptions = {}): Promise<Restored> {
        const request = { params: { path: { id } }, body, ...own(options) };
        return content(api.POST("/v1/deletions/{id}/restore", request));
      },
    },

    /** The storage that the tenant and the caller use, and their quotas. */
    async usage(options: CallOptions = {}): Promise<Usage> {
      return content(api.GET("/v1/usage", own(options)));
    },
    /** The limits of one upload, for the rules in the browser: to entities of this type, where it is given. */
    async limits(options: CallOptions & { entity_type?: string } = {}): Promise<Limits> {
      const { entity_type } = options;
      const query = entity_type === undefined ? {} : { entity_type };
      return content(api.GET("/v1/limits", { params: { query }, ...own(options) }));
    },
  };
}

function ifMatch({ ifVersion }: VersionOptions) {
  return ifVersion === undefined ? {} : { "If-Match": `"${ifVersion}"` };
}

/** The content of a page, from whose type openapi-fetch drops members that are always null. */
async function page(
  answer: Promise<{ data?: Omit<Page, "items"> & { items: unknown[] }; response: Response }>,
): Promise<Page> {
  return (await content(answer)) as Page;
}

function deleted({ response }: { response: Response }): Deleted {
  const deletionId = response.headers.get("keepsake-deletion");
  if (deletionId === null) throw KeepsakeError.ofText(response.status, null, "", null);
  return { deletionId };
}

async function addressOf(response: Response): Promise<string> {
  // Not awaited: where something else reads the body too, as in Next.js, it never settles.
  response.body?.cancel().catch(() => undefined);
  return response.url;
}

async function* everyItem<T>(
  page: (next: { cursor?: string }) => Promise<{ items: T[]; next_cursor: string | null }>,
): AsyncGenerator<T> {
  let next: string | null | undefined;
  while (next !== null) {
    const { items, next_cursor } = await page(next === undefined ? {} : { cursor: next });
    yield* items;
    next = next_cursor;
  }
}
