import createClient from "openapi-fetch";

import { content, cursor, done, own } from "./answer.js";
import type { CallOptions, KeepsakeOptions, PageOptions } from "./keepsake.js";
import type { components, operations, paths } from "./openapi.js";
import { transport, whole } from "./transport.js";

type Schemas = components["schemas"];
type Query<Name extends keyof operations> = Omit<
  NonNullable<operations[Name]["parameters"]["query"]>,
  "cursor"
>;

/** Storage and backlog over time. */
export type History = Schemas["History"];
/** What one scheduled run found. */
export type Sample = Schemas["Sample"];
/** What the next purge would take. */
export type PurgePlan = Schemas["PurgePlan"];
/** An object that waits to be deleted from the bucket. */
export type OutboxObject = Schemas["OutboxObject"];
/** A page of them. */
export type Outbox = Schemas["Outbox"];
/** A legal hold. */
export type Hold = Schemas["Hold"];
/** A page of them. */
export type Holds = Schemas["Holds"];
/** What is to be held. */
export type HoldRequest = Schemas["HoldRequest"];
/** An event that has not been delivered. */
export type Event = Schemas["Event"];
/** A page of them. */
export type Events = Schemas["Events"];
/** Whom to erase. */
export type ErasureRequest = Schemas["ErasureRequest"];
/** The certificate of an erasure. */
export type Erasure = Schemas["Erasure"];
/** A page of them. */
export type Erasures = Schemas["Erasures"];
/** Where bucket and database differ. */
export type Finding = Schemas["Finding"];
/** A page of such places. */
export type Findings = Schemas["Findings"];
/** One step of a scheduled run. */
export type Run = Schemas["Run"];
/** The latest of them, and how the audit stands. */
export type Runs = Schemas["Runs"];

/** Keepsake as an operator sees it, of all tenants together. Wants a token with the scope `operator`. */
export type KeepsakeOperator = ReturnType<typeof createOperator>;

/** An operator's client of the Keepsake at `url`. */
export function createOperator({ url, token, fetch }: KeepsakeOptions) {
  const send = transport(token, fetch ?? ((...request) => globalThis.fetch(...request)));
  const api = createClient<paths>({
    baseUrl: url.replace(/\/+$/, ""),
    fetch: (request) => send(request, (response) => whole(request, response)),
  });

  return {
    /** Samples of storage and backlog, oldest first. */
    async history(query: Query<"getHistory"> = {}, options: CallOptions = {}): Promise<History> {
      return content(api.GET("/v1/operator/history", { params: { query }, ...own(options) }));
    },
    /** A dry run of the purge, now or `at` a moment. */
    async purgePlan(query: Query<"getPurgePlan"> = {}, options: CallOptions = {}): Promise<PurgePlan> {
      return content(api.GET("/v1/operator/purge-plan", { params: { query }, ...own(options) }));
    },
    /** The latest steps of the schedule, newest first, and how the audit stands. */
    async runs(query: Query<"listRuns"> = {}, options: CallOptions = {}): Promise<Runs> {
      return content(api.GET("/v1/runs", { params: { query }, ...own(options) }));
    },
    /** One page of where the audit found bucket and database to differ. */
    async findings(query: Query<"listFindings"> = {}, options: PageOptions = {}): Promise<Findings> {
      const params = { query: { ...query, ...cursor(options) } };
      return content(api.GET("/v1/operator/findings", { params, ...own(options) }));
    },

    /** Objects whose rows are gone, waiting to be deleted from the bucket, or whose deletion failed. */
    outbox: {
      /** One page, oldest first. */
      async list(query: Query<"listOutbox"> = {}, options: PageOptions = {}): Promise<Outbox> {
        const params = { query: { ...query, ...cursor(options) } };
        return content(api.GET("/v1/operator/outbox", { params, ...own(options) }));
      },
      /** Puts one that failed back at the head of the queue. */
      async retry(id: number, options: CallOptions = {}): Promise<void> {
        const params = { path: { id } };
        await done(api.POST("/v1/operator/outbox/{id}/retry", { params, ...own(options) }));
      },
    },

    /** What happened to attachments and has not been delivered to the receiver of events yet. */
    events: {
      /** One page, oldest first. */
      async list(query: Query<"listEvents"> = {}, options: PageOptions = {}): Promise<Events> {
        const params = { query: { ...query, ...cursor(options) } };
        return content(api.GET("/v1/operator/events", { params, ...own(options) }));
      },
      /** Delivers one that failed as soon as the schedule runs. */
      async retry(id: number, options: CallOptions = {}): Promise<void> {
        const params = { path: { id } };
        await done(api.POST("/v1/operator/events/{id}/retry", { params, ...own(options) }));
      },
    },

    /** Erasures: what names a tenant, or one person in it, is removed whatever its retention. */
    erasures: {
      /** One page of certificates, newest first. */
      async list(query: Query<"listErasures"> = {}, options: PageOptions = {}): Promise<Erasures> {
        const params = { query: { ...query, ...cursor(options) } };
        return content(api.GET("/v1/operator/erasures", { params, ...own(options) }));
      },
      /** Erases now, and returns the certificate. There is no way back. */
      async erase(body: ErasureRequest, options: CallOptions = {}): Promise<Erasure> {
        return content(api.POST("/v1/operator/erasures", { body, ...own(options) }));
      },
    },

    /** Legal holds: what one covers is not purged while it is active. */
    holds: {
      /** One page, newest first. */
      async list(query: Query<"listHolds"> = {}, options: PageOptions = {}): Promise<Holds> {
        const params = { query: { ...query, ...cursor(options) } };
        return content(api.GET("/v1/operator/holds", { params, ...own(options) }));
      },
      /** Holds something; what is held already keeps its hold. */
      async place(body: HoldRequest, options: CallOptions = {}): Promise<Hold> {
        return content(api.POST("/v1/operator/holds", { body, ...own(options) }));
      },
      /** Ends a hold. */
      async release(id: number, reason: string, options: CallOptions = {}): Promise<Hold> {
        const params = { path: { id } };
        const body = { reason };
        return content(api.POST("/v1/operator/holds/{id}/release", { body, params, ...own(options) }));
      },
    },
  };
}
