import { readFile } from "node:fs/promises";

import { createKeepsake, type EntityRef, loadRules, type Rules } from "keepsake-client";

/** A value that whoever runs the tests has put into the environment. */
export function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: tests/tests/client.rs sets it`);
  return value;
}

/** A client of the worker under test. */
export function client() {
  return createKeepsake({ url: given("KEEPSAKE_URL"), token: () => given("KEEPSAKE_TOKEN") });
}

/** The rules, from the built module. */
export async function rules(): Promise<Rules> {
  return loadRules(await readFile(new URL(import.meta.resolve("keepsake-client/rules.wasm"))));
}

/** One of the small real files. */
export async function fixture(name: string): Promise<File> {
  const bytes = await readFile(new URL(`../../tests/fixtures/${name}`, import.meta.url));
  return new File([bytes], name);
}

/** The SHA-256 of a file, by another implementation than the one under test. */
export async function sha256(file: Blob): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return Buffer.from(digest).toString("hex");
}

/** The posts that are there for the tests: each takes one of its own. */
const posts = (process.env.KEEPSAKE_POSTS ?? "").split(",");

/** A post that no other test of the same file uses. */
export function post(): EntityRef {
  const id = posts.pop();
  if (id === undefined) throw new Error("there are no more posts");
  return { type: "post", id };
}
