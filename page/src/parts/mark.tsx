// The sign of Keepsake: a locket.

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M9 4.5a3 3 0 0 1 6 0v1" />
      <path d="M12 7.5c-4.7 0-7.5 3-7.5 6.6C4.5 18.2 8 21 12 21s7.5-2.8 7.5-6.9c0-3.6-2.8-6.6-7.5-6.6Z" />
      <path d="M12 17.3c-2.400-1.500-3.500-2.700-3.500-4.100a1.800 1.800 0 0 1 3.500-.7 1.800 1.800 0 0 1 3.500.7c0 1.400-1.100 2.600-3.500 4.100Z" />
    </svg>
  );
}
