import createClient from "openapi-fetch";

import { content, cursor, done, own } from "./answer.js";
import { KeepsakeError } from "./error.js";
import type { components, operations, paths } from "./openapi.js";
import { type TokenSource, transport, whole } from "./transport.js";

type Schemas = components["schemas"];

/** What declares an upload. */
export type UploadRequest = Schemas["UploadRequest"];
/** One file of it. */
export type FileDeclaration = Schemas["FileDeclaration"];
/** A declared upload, with what each file is to be sent to. */
export type Upload = Schemas["Upload"];
/** Where an upload stands. */
export type UploadStatus = Schemas["UploadStatus"];
/** What completing an upload made. */
export type Completed = Schemas["Completed"];
/** Which parts are to be signed. */
export type PartsRequest = Schemas["PartsRequest"];
/** Parts to be sent. */
export type SignedParts = Schemas["SignedParts"];
/** Parts that have arrived. */
export type StoredParts = Schemas["StoredParts"];
/** One attachment. */
export type Attachment = Schemas["Attachment"];
/** A file from before Keepsake, which an entity names by a URL. */
export type LegacyItem = Schemas["LegacyItem"];
/** A page of a listing. */
export type Page = Schemas["Page"];
/** A thing that attachments can belong to. */
export type Thing = Schemas["Thing"];
/** A page of things. */
export type Things = Schemas["Things"];
/** A thing or an attachment, in words for people. */
export type Item = Schemas["Item"];
/** One soft delete: its root, who did it, how long it can be undone. */
export type Deletion = Schemas["Deletion"];
/** A page of the bin. */
export type Deletions = Schemas["Deletions"];
/** The same with the tree of what it took, and with what a restore would meet. */
export type DeletionDetails = Schemas["DeletionDetails"];
/** What a restore brought back. */
export type Restored = Schemas["Restored"];
/** What the tenant and the caller hold, and may hold. */
export type Usage = Schemas["Usage"];
/** What one upload may hold. */
export type Limits = Schemas["Limits"];

/** What a restore does about conflicts. */
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

/** Which things are listed, and how many on a page. */
export type ThingFilter = Omit<NonNullable<operations["listEntities"]["parameters"]["query"]>, "cursor">;

/** The thing that attachments belong to. */
export interface Entity {
  /** Its kind, such as `post`. */
  type: string;
  /** Its id. */
  id: string;
}

/** What every call takes. */
export interface CallOptions {
  /** Gives the call up: it then fails with the signal's reason, an `AbortError` if there is none. */
  signal?: AbortSignal;
}

/** What calls take that are done once for one key, however often they are sent. */
export interface OnceOptions extends CallOptions {
  /** 1 to 255 visible ASCII characters; without it the client makes one for this call. */
  idempotencyKey?: string;
}

/** What listings take that answer one page. */
export interface PageOptions extends CallOptions {
  /** The `next_cursor` of the page before. */
  cursor?: string;
}

/** A soft delete that has been done. */
export interface Deleted {
  /** The deletion: see `deletions.restore`. */
  deletionId: string;
}

export interface KeepsakeOptions {
  /** Where Keepsake is, such as `https://keepsake.example.com`. */
  url: string;
  /** Gives a bearer token; asked before every request. Without one, a server in between has to add it. */
  token?: TokenSource;
  /** Used in the place of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/**
 * Keepsake over HTTP. Each method is one request, and fails with a {@link KeepsakeError}. What
 * failed for a reason that passes has been tried again, with pauses.
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
  const entityPath = ({ type, id }: Entity) => ({ entity: type, id });

  return {
    /** Uploads: files that become visible together or not at all. */
    uploads: {
      /** Declares files, and gets what each is to be sent to. */
      async declare(body: UploadRequest, options: OnceOptions = {}): Promise<Upload> {
        const header = { "Idempotency-Key": options.idempotencyKey ?? crypto.randomUUID() };
        return content(api.POST("/v1/uploads", { body, params: { header }, ...own(options) }));
      },
      /** Where an upload stands, and what is wrong with its files. */
      async status(id: string, options: CallOptions = {}): Promise<UploadStatus> {
        return content(api.GET("/v1/uploads/{id}", { params: { path: { id } }, ...own(options) }));
      },
      /** Makes all files visible, or none: see `ofFile` of the error. */
      async complete(id: string, options: CallOptions = {}): Promise<Completed> {
        const params = { path: { id } };
        return content(api.POST("/v1/uploads/{id}/complete", { params, ...own(options) }));
      },
      /** Gives an upload up. */
      async abort(id: string, options: CallOptions = {}): Promise<void> {
        await done(api.DELETE("/v1/uploads/{id}", { params: { path: { id } }, ...own(options) }));
      },
      /** Signs parts of a large file, at most 100 at once. */
      async signParts(id: string, body: PartsRequest, options: CallOptions = {}): Promise<SignedParts> {
        const params = { path: { id } };
        return content(api.POST("/v1/uploads/{id}/parts", { body, params, ...own(options) }));
      },
      /** The parts of a large file that have arrived. */
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
      /** Every one, page after page, as far as they are asked for. */
      all(filter: AttachmentFilter = {}, options: CallOptions = {}): AsyncGenerator<Page["items"][number]> {
        return everyItem((next) => this.list(filter, { ...options, ...next }));
      },
      /** One attachment. */
      async get(id: string, options: CallOptions = {}): Promise<Attachment> {
        const params = { path: { id } };
        return content(api.GET("/v1/attachments/{id}", { params, ...own(options) }));
      },
      /**
       * A signed URL of the bytes, for a link or the `src` of a picture. It works for some minutes, for
       * whoever has it. `inline` asks for it to be shown and not saved, which only types that are safe
       * to show are.
       */
      async contentUrl(id: string, options: CallOptions & { inline?: boolean } = {}): Promise<string> {
        const path = `/v1/attachments/${encodeURIComponent(id)}/content`;
        const request = new Request(`${base}${path}?inline=${options.inline ?? false}`, {
          // A page cannot read where a redirect leads, but it can follow it and look where it is.
          headers: { range: "bytes=0-0" },
          ...own(options),
        });
        return send(request, addressOf);
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
      /** Brings a deleted attachment back; `restore_conflict` lists what is in the way. */
      async restore(id: string, options: CallOptions = {}): Promise<Restored> {
        const params = { path: { id } };
        return content(api.POST("/v1/attachments/{id}/restore", { params, ...own(options) }));
      },
    },

    /** The things that attachments belong to. */
    entities: {
      /** One page of the live things of a kind, newest first. */
      async list(type: string, filter: ThingFilter = {}, options: PageOptions = {}): Promise<Things> {
        const params = { path: { entity: type }, query: { ...filter, ...cursor(options) } };
        return content(api.GET("/v1/{entity}", { params, ...own(options) }));
      },
      /** Every one, page after page, as far as they are asked for. */
      all(type: string, filter: ThingFilter = {}, options: CallOptions = {}): AsyncGenerator<Thing> {
        return everyItem((next) => this.list(type, filter, { ...options, ...next }));
      },
      /** One live thing. */
      async get(entity: Entity, options: CallOptions = {}): Promise<Thing> {
        const params = { path: entityPath(entity) };
        return content(api.GET("/v1/{entity}/{id}", { params, ...own(options) }));
      },
      /** Changes what a thing is called, live or deleted. */
      async rename(entity: Entity, label: string, options: CallOptions = {}): Promise<Item> {
        const request = { params: { path: entityPath(entity) }, body: { label }, ...own(options) };
        return content(api.PATCH("/v1/{entity}/{id}", request));
      },
      /** One page of an entity's attachments: those that can be opened, unless a `state` is asked for. */
      async attachments(entity: Entity, options: PageOptions & EntityAttachmentFilter = {}): Promise<Page> {
        const { limit, state } = options;
        const filter = { ...(state && { state }), ...(limit === undefined ? {} : { limit }) };
        const params = { path: entityPath(entity), query: { ...filter, ...cursor(options) } };
        return page(api.GET("/v1/{entity}/{id}/attachments", { params, ...own(options) }));
      },
      /** Every attachment of an entity, page after page, as far as they are asked for. */
      allAttachments(
        entity: Entity,
        options: CallOptions & EntityAttachmentFilter = {},
      ): AsyncGenerator<Page["items"][number]> {
        return everyItem((next) => this.attachments(entity, { ...options, ...next }));
      },
      /** Deletes an entity with all that hangs on it, so that it can be restored. */
      async delete(entity: Entity, options: CallOptions = {}): Promise<Deleted> {
        const params = { path: entityPath(entity) };
        return deleted(await done(api.DELETE("/v1/{entity}/{id}", { params, ...own(options) })));
      },
      /** Brings a deleted entity back with all that its deletion took. */
      async restore(entity: Entity, options: CallOptions = {}): Promise<Restored> {
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
      /** Every one, page after page, as far as they are asked for. */
      all(filter: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Deletion> {
        return everyItem((next) => this.list(filter, { ...options, ...next }));
      },
      /** What one deletion took with it, as a tree, and what its restore would meet. */
      async get(id: string, options: CallOptions = {}): Promise<DeletionDetails> {
        return content(api.GET("/v1/deletions/{id}", { params: { path: { id } }, ...own(options) }));
      },
      /**
       * Brings back what one deletion removed: all of it or nothing, or with `on_conflict: "skip"` all that
       * has a place.
       */
      async restore(id: string, body: RestoreRequest = {}, options: CallOptions = {}): Promise<Restored> {
        const request = { params: { path: { id } }, body, ...own(options) };
        return content(api.POST("/v1/deletions/{id}/restore", request));
      },
    },

    /** What the tenant and the caller hold, and may hold. */
    async usage(options: CallOptions = {}): Promise<Usage> {
      return content(api.GET("/v1/usage", own(options)));
    },
    /** What one upload may hold: for the rules in the browser. */
    async limits(options: CallOptions = {}): Promise<Limits> {
      return content(api.GET("/v1/limits", own(options)));
    },
  };
}

/** The same of a page, from whose type openapi-fetch drops the members that are always null. */
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
  // Not waited for: where somebody else reads the body as well, as Next.js does, it never ends.
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
