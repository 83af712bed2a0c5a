// Nothing yet, nothing at all, and nothing to be had: each view shows these the same way.

import type { ComponentChildren } from "preact";
import { explain } from "../words";

/** Lines in the place of what is being fetched, so that nothing jumps when it comes. */
export function Loading({ what, rows = 4 }: { what: string; rows?: number }) {
  return (
    <div class="loading" role="status">
      <span class="unseen">Fetching {what}</span>
      {Array.from({ length: rows }, (_, row) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: rows of nothing have no other
        <div class="bone" key={row} aria-hidden="true" />
      ))}
    </div>
  );
}

interface EmptyProps {
  readonly title: string;
  /** Of its heading. */
  readonly level?: 1 | 2 | 3;
  readonly children?: ComponentChildren;
}

export function Empty({ title, level = 2, children }: EmptyProps) {
  const Heading = `h${level}` as const;
  return (
    <div class="empty">
      <Heading>{title}</Heading>
      {children}
    </div>
  );
}

interface FailureProps {
  readonly error: unknown;
  /** Of its heading: 1 where it stands for the whole view. */
  readonly level?: 1 | 2;
  readonly onRetry?: () => void;
}

export function Failure({ error, level = 2, onRetry }: FailureProps) {
  const Heading = `h${level}` as const;
  const { title, detail, advice } = explain(error);
  return (
    <div class="failure" role="alert">
      <Heading>{title}</Heading>
      <p>
        {detail} {advice}
      </p>
      {onRetry && (
        <button type="button" class="button" onClick={onRetry}>
          Retry
        </button>
      )}
    </div>
  );
}
