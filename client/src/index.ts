/**
 * A client of Keepsake for browsers and servers.
 *
 * The types of requests and answers are generated from `docs/openapi.json`, and keep the names that
 * they have on the wire.
 */
export * from "./error.js";
export * from "./keepsake.js";
export * from "./operator.js";
export * from "./rules.js";
export type { TokenSource } from "./transport.js";
export * from "./upload-files.js";
