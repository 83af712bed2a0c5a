// examples/plain: one HTML file beside the client, on an origin of its own.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { expect, test } from "@playwright/test";
import { file, given, LETTER, PICTURE } from "./given";

const FILES: Record<string, [path: string, type: string]> = {
  "/": ["examples/plain/index.html", "text/html"],
  "/keepsake.js": ["client/dist/browser/keepsake.js", "text/javascript"],
  "/keepsake_rules_bg.wasm": ["client/dist/browser/keepsake_rules_bg.wasm", "application/wasm"],
};

const server = createServer(async (request, response) => {
  const [path, type] = FILES[request.url ?? ""] ?? [];
  if (path === undefined || type === undefined) return void response.writeHead(404).end();
  response.writeHead(200, { "content-type": type }).end(await readFile(file(path)));
});

test.beforeAll(
  () => new Promise<void>((ready) => server.listen(Number(given("PLAIN_PORT")), "127.0.0.1", ready)),
);
test.afterAll(() => void server.close());

test("a plain page uploads, shows, deletes and restores", async ({ page }) => {
  const address = new URLSearchParams({
    url: given("KEEPSAKE_URL"),
    token: given("KEEPSAKE_TOKEN"),
    post: given("PLAIN_POST"),
  });
  await page.goto(`http://127.0.0.1:${given("PLAIN_PORT")}/#${address}`);
  const attachments = page.getByRole("list", { name: "Attachments" }).getByRole("listitem");
  const deleted = page.getByRole("list", { name: "Deleted" }).getByRole("listitem");
  const status = page.getByRole("status");
  await expect(page.getByLabel("Files")).toHaveAttribute("accept", /\.png,/);

  await page.getByLabel("Files").setInputFiles([PICTURE, LETTER]);
  await page.getByRole("button", { name: "Upload" }).click();
  await expect(attachments).toContainText(["letter.pdf", "locket.png"]);
  await expect(status).toBeEmpty();

  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download locket.png" }).click();
  const stored = await (await download).path();
  expect(await readFile(stored)).toEqual(await readFile(PICTURE));

  await page.getByRole("button", { name: "Delete locket.png" }).click();
  await expect(deleted).toContainText(["locket.png 30 days left"]);
  await expect(attachments).toHaveCount(1);
  await page.getByRole("button", { name: "Restore locket.png" }).click();
  await expect(attachments).toHaveCount(2);
  await expect(deleted).toHaveCount(0);

  // The name is taken while another file has it.
  await page.getByRole("button", { name: "Delete locket.png" }).click();
  await expect(deleted).toHaveCount(1);
  await page.getByLabel("Files").setInputFiles(PICTURE);
  await page.getByRole("button", { name: "Upload" }).click();
  await expect(attachments).toHaveCount(2);
  await page.getByRole("button", { name: "Restore locket.png" }).click();
  await expect(status).toContainText("The restore conflicts with existing rows");
  await expect(deleted).toHaveCount(1);
});

test("a plain page is told what is wrong with a file before anything is sent", async ({ page }) => {
  const sent: string[] = [];
  page.on("request", (request) => {
    if (request.method() !== "GET" && request.method() !== "OPTIONS") sent.push(request.url());
  });
  const address = new URLSearchParams({
    url: given("KEEPSAKE_URL"),
    token: given("KEEPSAKE_TOKEN"),
    post: given("PLAIN_POST"),
  });
  await page.goto(`http://127.0.0.1:${given("PLAIN_PORT")}/#${address}`);
  const picture = { name: "picture.png", mimeType: "image/png", buffer: Buffer.from("GIF89a, it says") };
  await page.getByLabel("Files").setInputFiles(picture);
  await page.getByRole("button", { name: "Upload" }).click();
  await expect(page.getByRole("status")).toContainText("its bytes are not those of image/png");
  const program = { name: "setup.exe", mimeType: "", buffer: Buffer.from("MZ") };
  await page.getByLabel("Files").setInputFiles(program);
  await page.getByRole("button", { name: "Upload" }).click();
  await expect(page.getByRole("status")).toContainText('Files with the extension ".exe" are not allowed.');
  expect(sent).toEqual([]);
});
