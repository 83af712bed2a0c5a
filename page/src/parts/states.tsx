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

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Failure({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const { title, detail, advice } = explain(error);
  return (
    <div class="failure" role="alert">
      <h2>{title}</h2>
      <p>
        {detail} {advice}
      </p>
      {onRetry && (
        <button type="button" class="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}
