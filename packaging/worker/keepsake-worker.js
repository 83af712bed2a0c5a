#!/usr/bin/env node
// `keepsake-worker init`: writes what wrangler needs to run and deploy the worker of this package.

import { randomBytes } from "node:crypto";
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const home = dirname(fileURLToPath(import.meta.url));

/** Ends the program: what happened, and what to do. */
function fail(cause, hint) {
  console.error(`error: ${cause}\n  hint: ${hint}`);
  process.exit(1);
}

/** Writes a file that does not exist yet: all of it, or none. */
function create(name, content, mode) {
  let file;
  try {
    file = openSync(name, "wx", mode);
    writeFileSync(file, content);
    closeSync(file);
  } catch (error) {
    if (error.code === "EEXIST") return false;
    // What a full disk has left of it must not pass for a whole one.
    if (file !== undefined) rmSync(name);
    fail(`${name} could not be written: ${error.message}`, "choose a folder that you may write to, with free space");
  }
  console.log(`wrote ${name}`);
  return true;
}

/** A key as the worker's settings have it: an id, and 32 random bytes. */
const key = () => `dev:${randomBytes(32).toString("base64")}`;

function init() {
  const place = relative(process.cwd(), home).split(sep).join("/");
  // `npx` without an installed package runs one from its cache, which it may remove.
  if (place.startsWith("..") || !place.includes("node_modules")) {
    fail("keepsake-worker is not installed in this folder", "run: npm install keepsake-worker wrangler");
  }
  if (existsSync("wrangler.toml")) {
    fail("wrangler.toml exists, and was not changed", "move it away to get a new one, or keep it: updates of this package need no other");
  }
  const template = readFileSync(join(home, "wrangler.toml"), "utf8");
  // The file that a second run looks for comes last.
  if (!create(".dev.vars", `JWT_KEYS=${key()}\nURL_KEYS=${key()}\n`, 0o600)) {
    console.log("kept .dev.vars");
  }
  create("wrangler.toml", template.replaceAll("@PACKAGE@", place), 0o644);
  console.log(`
Next, on this machine (keep .dev.vars out of version control):
  export CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_HYPERDRIVE=postgres://keepsake_worker:…@127.0.0.1:5432/app
  npx wrangler dev
Or on Cloudflare: take the steps at the top of wrangler.toml, then
  npx wrangler deploy`);
}

const [command, ...rest] = process.argv.slice(2);
if (command !== "init" || rest.length > 0) {
  fail(`keepsake-worker knows one command, and not '${process.argv.slice(2).join(" ")}'`, "run: npx keepsake-worker init");
}
init();
