// The versions of a file.

import { add, files, open } from "./entity";
import { note, pdf, png } from "./files";
import { expect, look, test } from "./world";

const versions = (page: import("@playwright/test").Page) =>
  page.getByRole("region", { name: "Versions", exact: true }).getByRole("listitem");

test("a file is replaced, and a former version comes back", async ({ page, tenant }) => {
  await open(page, tenant);
  await add(page, [note("notes.txt", "The first.\n"), png()]);
  await page.getByRole("link", { name: "Versions of notes.txt" }).click();
  await expect(page.getByRole("heading", { name: "notes.txt" })).toBeVisible();
  await expect(versions(page)).toHaveCount(1);
  await look(page, "file");

  // A copy of the same kind keeps the name.
  await page.locator("input[type=file]").setInputFiles(note("notes (2).txt", "The second one.\n"));
  await expect(page.getByRole("status").getByText("notes.txt has a new version.")).toBeVisible();
  await expect(versions(page)).toHaveCount(2);
  await expect(versions(page).first()).toContainText("Version 2");
  await expect(versions(page).first()).toContainText("Current");
  await expect(page.getByRole("heading", { name: "notes.txt" })).toBeVisible();
  await page.locator("input[type=file]").setInputFiles(pdf());
  await expect(page.getByRole("heading", { name: "letter.pdf" })).toBeVisible();
  await expect(versions(page)).toHaveCount(3);
  await look(page, "file-versions");

  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download version 1" }).click();
  expect((await download).suggestedFilename()).toBe("notes.txt");

  await page.getByRole("button", { name: "Restore version 1" }).click();
  await expect(page.getByRole("status").getByText("Version 1 is current again, as version 4.")).toBeVisible();
  await expect(versions(page).first()).toContainText("was version 1");
  await page.getByRole("link", { name: /^Post / }).click();
  await expect(files(page)).toHaveCount(2);
  await expect(page.getByText("notes.txt")).toBeVisible();
});

test("a version that another was faster than is not put over it", async ({ page, tenant }) => {
  await open(page, tenant);
  await add(page, [note()]);
  await page.getByRole("link", { name: "Versions of notes.txt" }).click();
  await expect(versions(page)).toHaveCount(1);
  await tenant.sql(
    `UPDATE attachments.attachment SET version = version + 1 WHERE tenant_id = '${tenant.name}'`,
  );
  await page.locator("input[type=file]").setInputFiles(note("notes.txt", "Too late.\n"));
  await expect(page.getByText("Version 2 is current")).toBeVisible();
  await expect(versions(page).first()).toContainText("Version 2");
});

test("who may only read sees the history and changes nothing", async ({ page, tenant }) => {
  const id = await open(page, tenant);
  await add(page, [note()]);
  await tenant.visit(page, `/entity/post/${id}`, { scope: "attachments:read" });
  await page.getByRole("link", { name: "Versions of notes.txt" }).click();
  await expect(versions(page)).toHaveCount(1);
  await expect(page.locator("input[type=file]")).toHaveCount(0);
});
