import { resolve } from "node:path";

/** What `tests/tests/embedding.rs` says about what it has started. */
export function given(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run cargo test -p keepsake-tests --test embedding`);
  return value;
}

/** A file of the repository, in whose top folder the tests run. */
export function file(path: string): string {
  return resolve(path);
}

/** Small real files to upload. */
export const PICTURE = file("tests/fixtures/locket.png");
export const LETTER = file("tests/fixtures/letter.pdf");
