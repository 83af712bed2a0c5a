// Where the bytes are: with the worker, or in a store of another origin that speaks S3. The page is the
// same, and so is what a person sees.

import type { Download, Page } from "@playwright/test";
import { choose, files, open, start } from "./entity";
import { large, note, png } from "./files";
import { given } from "./given";
import { expect, test } from "./world";

const store = new URL(given("KEEPSAKE_STORE_URL")).origin;

/** Where the page sends bytes. */
function puts(page: Page): URL[] {
  const sent: URL[] = [];
  page.on("request", (request) => {
    if (request.method() === "PUT") sent.push(new URL(request.url()));
  });
  return sent;
}

async function bytes(download: Download): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

test("files go to the store, whole and in parts, and come back from it", async ({ page, tenant }) => {
  const sent = puts(page);
  await open(page, tenant);
  const long = large();
  await choose(page, [png(), long]);
  await start(page, 2);
  await expect(page.getByRole("status").getByText("All 2 files are added.")).toBeVisible({ timeout: 30_000 });
  await expect(files(page)).toHaveCount(2);
  // One picture, and three parts of the text.
  expect(sent.map(({ origin }) => origin)).toEqual([store, store, store, store]);

  const picture = page.locator(".thumbnail img");
  await expect(picture).toBeVisible();
  const width = () => picture.evaluate((img: HTMLImageElement) => img.naturalWidth);
  await expect.poll(width).toBeGreaterThan(0);
  expect(new URL((await picture.getAttribute("src")) ?? "").origin).toBe(store);

  const arriving = page.waitForEvent("download");
  await page.getByRole("button", { name: `Download ${long.name}` }).click();
  const download = await arriving;
  expect(download.suggestedFilename()).toBe(long.name);
  expect((await bytes(download)).equals(long.buffer)).toBe(true);
});

test("parts that the store has are not sent again after a reload", async ({ page, tenant }) => {
  await open(page, tenant);
  let parts = 0;
  await page.route(
    (url) => url.origin === store,
    async (route) => {
      if (route.request().method() !== "PUT") return route.continue();
      parts += 1;
      // The second part hangs until the page is gone.
      if (parts !== 2) await route.continue();
    },
  );
  await choose(page, [large()]);
  await start(page, 1);
  await expect.poll(() => parts).toBe(2);
  await page.waitForTimeout(1500);
  await page.reload();
  await expect(page.getByText("Session restored")).toBeVisible();
  await start(page, 1);
  await expect(page.getByRole("status").getByText("long.txt is added.")).toBeVisible({ timeout: 30_000 });
  // The second again, and the third: the first was not sent twice.
  expect(parts).toBe(4);
  await expect(files(page)).toHaveCount(1);
});

test("the page may reach the store and the worker, and nobody else", async ({
  page,
  request,
  complaints,
}) => {
  const own = new URL(given("KEEPSAKE_URL")).origin;
  const first = await request.get("/");
  const policy = first.headers()["content-security-policy"] ?? "";
  const sources = (name: string) =>
    policy
      .split("; ")
      .find((directive) => directive.startsWith(name))
      ?.split(" ")
      .slice(1);
  const also = store === own ? [] : [store];
  expect(sources("connect-src")).toEqual(["'self'", ...also]);
  expect(sources("img-src")).toEqual(["'self'", "data:", "blob:", ...also]);
  expect(sources("script-src")).toEqual(["'self'", "'wasm-unsafe-eval'"]);
  // A browser takes the policy anew with each visit: there is nothing that could be kept without it.
  expect(first.headers().etag).toBeUndefined();

  await page.goto("/");
  const reached = await page.evaluate(() =>
    fetch("https://elsewhere.example/").then(
      () => "reached",
      () => "refused",
    ),
  );
  expect(reached).toBe("refused");
  expect(complaints.splice(0).join(" ")).toContain("Content Security Policy");
});

test("a store that lets no page in is told of in words, and nothing is added", async ({ page, tenant }) => {
  await open(page, tenant);
  // As a bucket without a CORS rule: the browser keeps the answer from the page.
  await page.route(
    (url) => url.origin === store,
    (route) => (route.request().method() === "PUT" ? route.abort("accessdenied") : route.continue()),
  );
  await choose(page, [note()]);
  await start(page, 1);
  await expect(page.locator(".trouble")).toContainText("notes.txt could not be sent");
  await expect(files(page)).toHaveCount(0);
});
