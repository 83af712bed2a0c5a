// Files as people have them, made here: small real ones, and large ones of no content.

import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface TestFile {
  readonly name: string;
  readonly mimeType: string;
  readonly buffer: Buffer;
}

const fixture = (name: string): Buffer =>
  readFileSync(join(import.meta.dirname, "../../tests/fixtures", name));

export const png = (name = "locket.png"): TestFile => ({
  name,
  mimeType: "image/png",
  buffer: fixture("locket.png"),
});

export const pdf = (name = "letter.pdf"): TestFile => ({
  name,
  mimeType: "application/pdf",
  buffer: fixture("letter.pdf"),
});

export const note = (name = "notes.txt", text = "A note.\n"): TestFile => ({
  name,
  mimeType: "text/plain",
  buffer: Buffer.from(text),
});

/** A text so long that it comes in parts. */
export const large = (name = "long.txt", bytes = 12 * 1024 * 1024): TestFile => ({
  name,
  mimeType: "text/plain",
  buffer: Buffer.alloc(bytes, "All work and no play.\n"),
});
