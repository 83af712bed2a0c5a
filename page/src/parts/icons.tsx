// Signs on buttons; what a button does is said in its name.

export function BinIcon() {
  return (
    <svg class="sign" viewBox="0 0 16 16" aria-hidden="true">
      <path d="M2.5 4.5h11M6.5 4.500v-2h3v2M4 4.500l.6 9h6.800l.6-9M6.7 7.500v3.500m2.6-3.500v3.5" />
    </svg>
  );
}

export function RestoreIcon() {
  return (
    <svg class="sign" viewBox="0 0 16 16" aria-hidden="true">
      <path d="M3 3v3.500h3.500M3.3 6.300A5.2 5.2 0 1 1 3 9" />
    </svg>
  );
}

export function VersionsIcon() {
  return (
    <svg class="sign" viewBox="0 0 16 16" aria-hidden="true">
      <path d="M5.500 5.500h7.5v8h-7.5zM3 10.500v-8h7.5" />
    </svg>
  );
}

export function DownloadIcon() {
  return (
    <svg class="sign" viewBox="0 0 16 16" aria-hidden="true">
      <path d="M8 2.500v8M4.5 7.5 8 11l3.5-3.500M3 13.500h10" />
    </svg>
  );
}

export function CloseIcon() {
  return (
    <svg class="sign" viewBox="0 0 16 16" aria-hidden="true">
      <path d="m4 4 8 8m0-8-8 8" />
    </svg>
  );
}
