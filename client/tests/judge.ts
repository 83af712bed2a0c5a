// What the rules say in WebAssembly: reads cases as JSON, writes the judgements as JSON.
// tests/tests/rules.rs compares them with those of the worker and the database.
import { json } from "node:stream/consumers";

import type { Limits, UploadDraft } from "keepsake-client";

import { rules as loaded } from "./support.ts";

interface Cases {
  limits: Limits;
  uploads: UploadDraft[];
  contents: { name: string; base64: string }[];
  names: string[];
}

const { limits, uploads, contents, names } = (await json(process.stdin)) as Cases;
const rules = await loaded();

const judgements = {
  uploads: uploads.map((upload) => {
    const refusal = rules.checkUpload(upload, limits);
    if (refusal === undefined) return null;
    const { code, status, title, detail, errors } = refusal;
    return { code, status, title, detail, errors };
  }),
  contents: await Promise.all(
    contents.map(async ({ name, base64 }) => {
      const bytes = Buffer.from(base64, "base64");
      return {
        problems: await rules.checkContent(new File([bytes], name), limits),
        sniffed: rules.sniff(bytes) ?? null,
      };
    }),
  ),
  names: names.map((name) => ({
    sanitized: rules.sanitizeFileName(name),
    media_type: rules.mediaType(name) ?? null,
  })),
};
process.stdout.write(JSON.stringify(judgements));
