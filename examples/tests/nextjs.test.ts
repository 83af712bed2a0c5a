// examples/nextjs, built and served by `next start`.

import { readFile } from "node:fs/promises";
import { expect, test } from "@playwright/test";
import { given, LETTER, PICTURE } from "./given";

/** Over `inline_max_bytes`. */
const LONG_TEXT = { name: "log.txt", mimeType: "text/plain", buffer: Buffer.alloc(6 << 20, "keepsake\n") };

for (const [way, query] of [
  ["directly", ""],
  ["through a route of its server", "?through=server"],
] as const) {
  test(`a Next.js page uploads ${way}, and is made anew after delete and restore`, async ({ page }) => {
    const calls: string[] = [];
    page.on("request", (request) => {
      if (request.url().includes("/v1/")) calls.push(`${request.method()} ${new URL(request.url()).origin}`);
    });
    const application = given("NEXT_URL");
    const post = given(way === "directly" ? "NEXT_POST" : "NEXT_OTHER_POST");
    await page.goto(`${application}/posts/${post}${query}`);
    const attachments = page.getByRole("list", { name: "Attachments" }).getByRole("listitem");
    const deleted = page.getByRole("list", { name: "Deleted" }).getByRole("listitem");

    await page.getByLabel("Files").setInputFiles([PICTURE, LETTER]);
    await expect(attachments).toContainText(["letter.pdf", "locket.png"]);
    const asked = `POST ${way === "directly" ? given("KEEPSAKE_URL") : application}`;
    const sent = `PUT ${given("KEEPSAKE_URL")}`;
    expect(calls).toContain(asked);
    expect(calls).not.toContain(sent);

    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "locket.png" }).click();
    expect(await readFile(await (await download).path())).toEqual(await readFile(PICTURE));

    await page.getByRole("button", { name: "Delete locket.png" }).click();
    await expect(deleted).toContainText(["locket.png, 30 days left"]);
    await expect(attachments).toHaveCount(1);
    await page.getByRole("button", { name: "Restore locket.png" }).click();
    await expect(attachments).toHaveCount(2);
    await expect(deleted).toHaveCount(0);

    // What the page shows is what the server would show to anybody else.
    await page.reload();
    await expect(attachments).toHaveCount(2);

    await page.getByRole("button", { name: "Delete locket.png" }).click();
    await expect(deleted).toHaveCount(1);
    await page.getByLabel("Files").setInputFiles(PICTURE);
    await expect(attachments).toHaveCount(2);
    await page.getByRole("button", { name: "Restore locket.png" }).click();
    await expect(page.getByRole("status")).toContainText("The restore conflicts");

    // More than one request takes goes to the store in either way.
    await page.getByLabel("Files").setInputFiles(LONG_TEXT);
    await expect(attachments).toHaveCount(3);
    expect(calls).toContain(sent);
  });
}

test("a Next.js page says why a file is not taken", async ({ page }) => {
  await page.goto(`${given("NEXT_URL")}/posts/${given("NEXT_POST")}`);
  const program = { name: "setup.exe", mimeType: "", buffer: Buffer.from("MZ") };
  await page.getByLabel("Files").setInputFiles(program);
  await expect(page.getByRole("status")).toContainText('Files with the extension ".exe" are not allowed.');
});

test("the routes of the Next.js example answer its own pages alone", async ({ request }) => {
  for (const path of ["/api/keepsake-token", "/api/keepsake/v1/uploads"]) {
    for (const site of ["cross-site", "same-site", "none"]) {
      const answer = await request.post(given("NEXT_URL") + path, { headers: { "sec-fetch-site": site } });
      expect(answer.status()).toBe(403);
    }
  }
});
