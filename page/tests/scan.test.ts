// Files that wait for a malware scan, and what becomes of them while somebody looks.

import type { Page } from "@playwright/test";
import { choose, files, open, start } from "./entity";
import { note, png, type TestFile } from "./files";
import { expect, judge, look, sql, type Tenant, test, text } from "./world";

/** Uploads these to a post of a tenant whose files are scanned. */
async function submit(page: Page, tenant: Tenant, chosen: readonly TestFile[]): Promise<void> {
  await sql(`INSERT INTO attachments.scan_policy VALUES (${text(tenant.name)}, true)`);
  await open(page, tenant);
  await choose(page, chosen);
  await start(page, chosen.length);
  await expect(files(page)).toHaveCount(chosen.length);
}

const download = (page: Page, name: string) => page.getByRole("button", { name: `Download ${name}` });

test("files are shut until they are found clean, and open by themselves", async ({ page, tenant }) => {
  await submit(page, tenant, [png(), note()]);
  const said = page.getByRole("status");
  await expect(said.getByText("All 2 files are being scanned for malware")).toBeVisible();
  await expect(files(page).getByText("Scanning")).toHaveCount(2);
  await expect(files(page).getByText("becomes available when it is found clean")).toHaveCount(2);
  await expect(files(page).getByRole("button")).toHaveCount(0);
  await look(page, "scan-waiting");

  // Half of a set opens nothing.
  await judge(tenant, "locket.png", "clean");
  await page.waitForResponse((answer) => answer.url().includes("state=scanning"));
  await expect(files(page).getByText("Scanning")).toHaveCount(2);
  await judge(tenant, "notes.txt", "clean");
  await expect(said.getByText("All 2 files were found clean and can be downloaded.")).toBeVisible();
  await expect(files(page).getByText("Scanning")).toHaveCount(0);
  await expect(download(page, "notes.txt")).toBeVisible();
  await expect(page.locator(".thumbnail img")).toBeVisible();
  await look(page, "scan-clean");
  // Nothing is asked any more.
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.waitForTimeout(4000);
  expect(asked.filter((url) => url.includes("state=scanning"))).toEqual([]);
});

test("malware is refused in words, takes its set with it, and can be deleted", async ({ page, tenant }) => {
  await submit(page, tenant, [png(), note()]);
  await judge(tenant, "notes.txt", "infected");
  const said = page.getByRole("status");
  await expect(said.getByText("Malware was found in notes.txt.")).toBeVisible();
  await expect(said).toContainText("locket.png, uploaded with it, was not added either");
  await expect(files(page)).toHaveCount(1);
  await expect(files(page).getByText("Quarantined: malware")).toBeVisible();
  await expect(files(page).getByText("Delete it, and add a clean copy.")).toBeVisible();
  await expect(download(page, "notes.txt")).toHaveCount(0);
  await look(page, "scan-refused");

  await page.getByRole("button", { name: "Delete notes.txt" }).click();
  await expect(page.getByRole("heading", { name: "No files yet" })).toBeVisible();
  await page.getByRole("button", { name: "Undo" }).click();
  await expect(files(page).getByText("Quarantined: malware")).toBeVisible();
  await expect(download(page, "notes.txt")).toHaveCount(0);
});

test("somebody who only looks sees what is shut as well, and is advised nothing they cannot do", async ({
  page,
  context,
  tenant,
}) => {
  await submit(page, tenant, [note()]);
  const reader = await context.newPage();
  const address = new URL(page.url()).hash.slice(1);
  await tenant.visit(reader, address, { sub: "bob", scope: "attachments:read" });
  await expect(files(reader).getByText("Scanning")).toBeVisible();
  await judge(tenant, "notes.txt", "infected");
  await expect(files(reader).getByText("Quarantined: malware")).toBeVisible();
  await expect(files(reader).getByText("Delete it")).toHaveCount(0);
});
