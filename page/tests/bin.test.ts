// Deleting and restoring.

import { add, files, open, ready } from "./entity";
import { note, pdf, png } from "./files";
import { expect, look, sql, Tenant, test, text } from "./world";

const notice = "status";

test("a deleted file is back at once by undo", async ({ page, tenant }) => {
  await open(page, tenant);
  await add(page, [png(), note()]);
  await page.getByRole("button", { name: "Delete notes.txt" }).click();
  await expect(files(page)).toHaveCount(1);
  await expect(page.getByRole(notice).getByText("notes.txt is in the bin.")).toBeVisible();
  await look(page, "undo");
  await page.getByRole("button", { name: "Undo" }).click();
  await expect(files(page)).toHaveCount(2);
  await expect(page.getByRole(notice).getByText("Restored: 1 attachment.")).toBeVisible();
});

test("a deleted post goes with all that hangs on it, and comes back with all of it", async ({
  page,
  tenant,
}) => {
  const id = await open(page, tenant, "holiday");
  await add(page, [png(), pdf()]);
  await page.getByRole("button", { name: "Delete post" }).click();
  await expect(page.getByRole("heading", { name: "No posts yet" })).toBeVisible();
  await look(page, "posts-empty");

  await page.getByRole("link", { name: "Bin", exact: true }).click();
  await expect(page.getByText("1 post, 2 attachments")).toBeVisible();
  await expect(page.getByText("In the bin, 30 days left")).toBeVisible();
  await look(page, "bin");
  await page.getByRole("link", { name: "holiday" }).click();
  await expect(page.getByRole("heading", { name: "What went with it" })).toBeVisible();
  await expect(page.locator(".tree").first().getByRole("listitem")).toHaveCount(3);
  await look(page, "deletion");

  await page.getByRole("button", { name: "Restore everything" }).click();
  await expect(page).toHaveURL(new RegExp(`#/entity/post/${id}$`));
  await expect(files(page)).toHaveCount(2);
});

test("one click in the bin restores", async ({ page, tenant }) => {
  const id = await tenant.post("beach");
  await tenant.sql(`SELECT keepsake.soft_delete('post', ${id}, 'spring clean')`);
  await tenant.visit(page, "/bin");
  await page.getByRole("button", { name: "Restore beach" }).click();
  await expect(page.getByRole("heading", { name: "The bin is empty" })).toBeVisible();
  await expect(page.getByRole(notice).getByText("Restored: 1 post.")).toBeVisible();
  await look(page, "bin-empty");
  await page.getByRole("link", { name: "Posts" }).click();
  await expect(page.getByRole("link", { name: "beach" })).toBeVisible();
  await look(page, "posts");
});

test("a conflict shows both, and a new name resolves it", async ({ page, tenant }) => {
  const thread = await tenant.thread("Holidays");
  const id = await tenant.post("beach", "The old one.", thread);
  await tenant.sql(`SELECT keepsake.soft_delete('post', ${id})`);
  const other = await tenant.post("beach", "The new one.", thread);
  await tenant.visit(page, "/bin");
  await page.getByRole("button", { name: "Restore beach" }).click();
  await expect(page.getByRole("heading", { name: "1 conflict" })).toBeVisible();
  const conflict = page.getByRole("region", { name: "1 conflict" });
  await expect(conflict.getByRole("heading", { name: "Has its place now" })).toBeVisible();
  await expect(conflict.getByRole("link", { name: "beach" })).toHaveAttribute(
    "href",
    `#/entity/post/${other}`,
  );
  await look(page, "conflict");

  // The name that is taken is still taken.
  await page.getByLabel("Restore it as").fill("beach");
  await page.getByRole("button", { name: "Rename and restore" }).click();
  await expect(conflict).toBeVisible();
  await page.getByLabel("Restore it as").fill("old-beach");
  await page.getByRole("button", { name: "Rename and restore" }).click();
  await expect(page).toHaveURL(new RegExp(`#/entity/post/${id}$`));
  await expect(page.getByRole("heading", { name: "old-beach" })).toBeVisible();
});

test("a conflict is skipped, and the rest comes back", async ({ page, tenant }) => {
  await open(page, tenant);
  await add(page, [note(), png()]);
  const post = page.url().split("/").at(-1) ?? "";
  // One deletion of both files, while the post stays.
  await tenant.sql(`DELETE FROM attachments.attachment WHERE tenant_id = ${text(tenant.name)}`);
  await page.reload();
  await ready(page);
  await add(page, [note()]);
  await page.goto("/#/bin");
  await page.getByRole("button", { name: "Restore Several attachments" }).click();
  await expect(page.getByRole("heading", { name: "1 conflict" })).toBeVisible();
  await look(page, "conflict-files");
  await page.getByRole("button", { name: "Skip these and restore the rest" }).click();
  await expect(
    page.getByRole(notice).getByText("Restored: 1 attachment. Still in the bin: 1 attachment."),
  ).toBeVisible();
  await expect(page.locator(".tree").getByRole("listitem")).toHaveCount(1);
  await page.goto(`/#/entity/post/${post}`);
  await expect(files(page)).toHaveCount(2);

  // What was left is restored under another name.
  await page.goto("/#/bin");
  await page.getByRole("link", { name: "Several attachments" }).click();
  await page.getByRole("button", { name: "Rename and restore" }).click();
  await expect(page).toHaveURL(/#\/bin$/);
  await page.goto(`/#/entity/post/${post}`);
  await expect(files(page)).toHaveCount(3);
  await expect(page.getByText("notes (restored).txt")).toBeVisible();
});

test("a held deletion says so", async ({ page, tenant }) => {
  const id = await tenant.post("evidence");
  const deletion = await tenant.sql(`SELECT keepsake.soft_delete('post', ${id})`);
  await tenant.sql(`SELECT keepsake.hold('${deletion}'::uuid, 'a case')`);
  await tenant.visit(page, "/bin");
  await expect(page.getByText("On hold until released")).toBeVisible();
  await look(page, "bin-held");
  await page.getByRole("link", { name: "evidence" }).click();
  await expect(page.getByText("A legal hold keeps it here")).toBeVisible();
  await look(page, "deletion-held");
});

test("what never was in the bin says so", async ({ page, tenant }) => {
  await tenant.visit(page, `/bin/${crypto.randomUUID()}`);
  await expect(page.getByRole("heading", { name: "There is no such deletion" })).toBeVisible();
  await look(page, "deletion-missing");
});

test("what was purged is gone, and says so", async ({ page, tenant }) => {
  const id = await tenant.post("old news");
  const deletion = await tenant.sql(`SELECT keepsake.soft_delete('post', ${id})`);
  await tenant.visit(page, `/bin/${deletion}`);
  await expect(page.getByRole("heading", { name: "old news" })).toBeVisible();
  await sql(
    `UPDATE keepsake.deletion SET expires_at = now() - interval '1 day' WHERE id = ${text(deletion)};
     SELECT keepsake.purge_batch(1000)`,
  );
  await page.reload();
  await expect(page.getByRole("heading", { name: "Permanently deleted" })).toBeVisible();
  await expect(page.getByText("It cannot be restored")).toBeVisible();
  await look(page, "deletion-purged");
});

test("two tenants in two windows see nothing of each other", async ({ page, context, tenant }) => {
  const id = await open(page, tenant, "mine");
  await add(page, [note("secret.txt")]);
  await page.getByRole("button", { name: "Delete secret.txt" }).click();
  const other = new Tenant();
  const second = await context.newPage();
  await other.visit(second, "/bin");
  await expect(second.getByRole("heading", { name: "The bin is empty" })).toBeVisible();
  await second.goto("/#/files");
  await expect(second.getByRole("heading", { name: "No files yet" })).toBeVisible();
  await second.goto(`/#/entity/post/${id}`);
  await expect(second.getByRole("alert")).toContainText("may have been deleted");
  await page.goto("/#/bin");
  await expect(page.getByRole("link", { name: "secret.txt" })).toBeVisible();
});

test("the server down is said in words, and trying again helps", async ({ page, tenant }) => {
  await tenant.post("beach");
  await page.route("**/v1/post?*", (route) => route.abort());
  await page.route("**/v1/post", (route) => route.abort());
  await tenant.visit(page);
  await expect(page.getByRole("alert")).toContainText("The server does not respond");
  await look(page, "failure");
  await page.unrouteAll();
  await page.getByRole("button", { name: "Retry" }).click();
  await expect(page.getByRole("link", { name: "beach" })).toBeVisible();
});

test("a token that runs out in the middle is asked for, and the page goes on where it was", async ({
  page,
  tenant,
}) => {
  const id = await tenant.post("beach");
  await tenant.visit(page, `/entity/post/${id}`);
  await expect(page.getByRole("heading", { name: "beach" })).toBeVisible();
  await page.route("**/v1/**", (route) =>
    route.continue({
      headers: { ...route.request().headers(), authorization: `Bearer ${tenant.token({ lasts: -3600 })}` },
    }),
  );
  await page.getByRole("button", { name: "Delete post" }).click();
  await expect(page.getByRole("alert")).toContainText("Your token has expired");
  await page.unrouteAll();
  await page.getByLabel("Token").fill(tenant.token());
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByRole("heading", { name: "beach" })).toBeVisible();
});

test("everything is done by keyboard alone", async ({ page, tenant }) => {
  await open(page, tenant);
  const press = async (name: string, role: "button" | "link" = "button") => {
    const wanted = page.getByRole(role, { name, exact: true });
    for (let tabs = 0; tabs < 60; tabs += 1) {
      await page.keyboard.press("Tab");
      if (await wanted.evaluateAll((all) => all.some((one) => one === document.activeElement))) {
        return page.keyboard.press("Enter");
      }
    }
    throw new Error(`${name} cannot be reached by keyboard`);
  };
  const asked = page.waitForEvent("filechooser");
  await press("browse files");
  await (await asked).setFiles([note()]);
  await press("Upload 1 file");
  await expect(files(page)).toHaveCount(1);
  await press("Delete notes.txt");
  await expect(page.getByRole("heading", { name: "Files", exact: true })).toBeFocused();
  await press("Undo");
  await expect(files(page)).toHaveCount(1);
  await press("Delete post");
  await expect(page.locator("main")).toBeFocused();
  await press("Skip to content");
  await press("Bin", "link");
  await press("beach", "link");
  await expect(page.getByRole("heading", { name: "What went with it" })).toBeVisible();
  await press("Restore everything");
  await expect(page.getByRole("heading", { name: "Files", exact: true })).toBeVisible();
});

test("names of any script are found by their words", async ({ page, tenant }) => {
  await open(page, tenant);
  await add(page, [note("Überraschung.txt"), note("صورة العائلة.txt")]);
  await page.getByRole("link", { name: "Files", exact: true }).click();
  await expect(page.getByText("صورة العائلة.txt", { exact: true })).toBeVisible();
  await look(page, "files");
  await page.getByLabel("Search the files").fill("uberrasch");
  await expect(page.getByText("صورة العائلة.txt", { exact: true })).toHaveCount(0);
  await expect(page.getByText("Überraschung.txt", { exact: true })).toBeVisible();
  await page.getByLabel("Search the files").fill("nothing such");
  await expect(page.getByRole("heading", { name: "No file of that name" })).toBeVisible();
});

test("a file is handed to the browser's downloads under its own name", async ({ page, tenant }) => {
  await open(page, tenant);
  await add(page, [note("家族.txt", "The very bytes.\n")]);
  const arriving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download 家族.txt" }).click();
  const download = await arriving;
  expect(download.suggestedFilename()).toBe("家族.txt");
  const chunks: Buffer[] = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk as Buffer);
  expect(Buffer.concat(chunks).toString()).toBe("The very bytes.\n");
});
