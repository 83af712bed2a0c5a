import type { components } from "./openapi.js";

/** Problem details (RFC 9457), as the server sends them. */
export type Problem = components["schemas"]["Problem"];

/** What is wrong with one field of a request, or with one file of an upload. */
export type FieldError = NonNullable<Problem["errors"]>[number];

/** What stands in the way of a restore. */
export type Conflict = components["schemas"]["Conflict"];

/**
 * Why a request failed: one of the server's stable codes, or, where no answer of the server was
 * seen, `network_error` (none came) or `unexpected_answer` (it is not the server's own, such as the
 * error page of a proxy or the refusal of an object store).
 */
export type ErrorCode = components["schemas"]["Code"] | "network_error" | "unexpected_answer";

/** Codes of answers of Keepsake that stay the same until somebody corrects something. */
const LASTING: readonly ErrorCode[] = ["keys_unusable"];

/** Codes with which an object store says "not now", whatever the status. */
const STORE_NOT_NOW = [
  "ConditionalRequestConflict",
  "OperationAborted",
  "RequestTimeout",
  "InternalError",
  "ServiceUnavailable",
  "SlowDown",
];

/** Whether a server, or a proxy before it, says "not now" by this status: not 501 and 505, which say "never". */
function isNotNow(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** A request that failed. Programs decide by `code`; people read `title` and `detail`. */
export class KeepsakeError extends Error {
  override readonly name = "KeepsakeError";
  /** Why. */
  readonly code: ErrorCode;
  /** The HTTP status; 0 when no answer came, and for a refusal by the rules in the browser. */
  readonly status: number;
  /** A short summary, the same for every occurrence. */
  readonly title: string;
  /** What happened this time, and what to do about it. */
  readonly detail: string;
  /** Each wrong field, by a JSON pointer into the request such as `/files/0/name`. */
  readonly errors: readonly FieldError[];
  /** With `restore_conflict`: everything that stands in the way. */
  readonly conflicts: readonly Conflict[];
  /** With `quota_exceeded` and `too_many_pending`: the limit that was reached. */
  readonly quota: Problem["quota"];
  /** The id under which the server's log has the request. */
  readonly requestId: string | undefined;
  /** Seconds after which the server asks to be tried again, if it said so. */
  readonly retryAfter: number | undefined;
  /** The code of an object store that refused a file, such as `RequestTimeout`. */
  readonly storeCode: string | undefined;

  constructor(
    problem: Omit<Problem, "type" | "code"> & { code: ErrorCode },
    options: { retryAfter?: number | undefined; storeCode?: string | undefined; cause?: unknown } = {},
  ) {
    super(`${problem.title}: ${problem.detail}`, { cause: options.cause });
    this.code = problem.code;
    this.status = problem.status;
    this.title = problem.title;
    this.detail = problem.detail;
    this.errors = problem.errors ?? [];
    this.conflicts = problem.conflicts ?? [];
    this.quota = problem.quota;
    this.requestId = problem.request_id;
    this.retryAfter = options.retryAfter;
    this.storeCode = options.storeCode;
  }

  /** Whether the same request, unchanged, may succeed a little later. */
  get retryable(): boolean {
    if (LASTING.includes(this.code)) return false;
    return (
      this.code === "network_error" ||
      this.code === "idempotency_in_flight" ||
      isNotNow(this.status) ||
      STORE_NOT_NOW.includes(this.storeCode ?? "")
    );
  }

  /** What is wrong with the file at this place of the upload. */
  ofFile(index: number): readonly FieldError[] {
    const pointer = `/files/${index}`;
    return this.errors.filter(
      (error) => error.pointer === pointer || error.pointer.startsWith(`${pointer}/`),
    );
  }

  /** The error that an answer stands for. */
  static async of(response: Response): Promise<KeepsakeError> {
    return KeepsakeError.ofText(
      response.status,
      response.headers.get("content-type"),
      await response.text(),
      response.headers.get("retry-after"),
    );
  }

  /** The same, of an answer's parts. */
  static ofText(
    status: number,
    contentType: string | null,
    body: string,
    retryAfter: string | null,
  ): KeepsakeError {
    const options = { retryAfter: seconds(retryAfter) };
    const problem = contentType?.startsWith("application/problem+json") ? parse(body) : undefined;
    if (problem !== undefined) return new KeepsakeError(problem, options);
    return new KeepsakeError(
      {
        code: "unexpected_answer",
        status,
        title: "Unexpected response",
        detail: `The response with status ${status} is not from Keepsake. Retry later.`,
      },
      { ...options, storeCode: /<Code>(\w+)<\/Code>/.exec(body)?.[1] },
    );
  }

  /** The error of a request to which no answer came. */
  static unreachable(cause: unknown): KeepsakeError {
    return new KeepsakeError(
      {
        code: "network_error",
        status: 0,
        title: "The server cannot be reached",
        detail: "There was no response. Check the connection and retry.",
      },
      { cause },
    );
  }
}

function parse(body: string): Problem | undefined {
  try {
    const problem: unknown = JSON.parse(body);
    return isProblem(problem) ? problem : undefined;
  } catch {
    return undefined;
  }
}

function isProblem(value: unknown): value is Problem {
  return typeof value === "object" && value !== null && "code" in value && "title" in value;
}

/** `Retry-After` (RFC 9110, 10.2.3) in seconds: a number of them, or a date. */
function seconds(value: string | null): number | undefined {
  if (value === null) return undefined;
  const given = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(given) ? undefined : Math.max(0, given);
}
