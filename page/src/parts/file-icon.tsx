// The kind of a file at a glance.

const KINDS: readonly [test: RegExp, kind: string, path: string][] = [
  [/^image\//, "Image", "M5 17l4-4 3 3 3.5-4L19 17M9 9.5h.01"],
  [/^video\//, "Video", "M10 9.5v5l4.5-2.5z"],
  [/^audio\//, "Audio", "M9.5 15.5v-6l5-1v6M9.5 15.5a1.5 1.5 0 1 1-1.5-1.5M14.5 14.5a1.5 1.5 0 1 1-1.5-1.5"],
  [/zip|compressed|tar|gzip/, "Archive", "M12 5v2m0 2v2m0 2v4"],
  [/csv|spreadsheet|excel/, "Table", "M7.5 10h9M7.5 14h9M12 8v8"],
  [/pdf|word|document|text/, "Document", "M8.5 10h7M8.5 13h7M8.5 16h4"],
];

/** A sheet with a sign of its kind on it. */
export function FileIcon({ mediaType }: { mediaType: string | undefined }) {
  const [, kind, path] = KINDS.find(([test]) => test.test(mediaType ?? "")) ?? [null, "File", ""];
  return (
    <svg class="file-icon" viewBox="0 0 24 24" role="img" aria-label={kind}>
      <rect x="4" y="4" width="16" height="16" rx="2.5" />
      <path d={path} />
    </svg>
  );
}
