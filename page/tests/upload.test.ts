// Adding files: all that are added together appear together, or none does.

import { choose, drop, files, open, start, trouble } from "./entity";
import { large, note, pdf, png } from "./files";
import { expect, look, sql, test, text } from "./world";

/** The server's own rows, whatever the page shows. */
const rows = (tenant: string, state: string) =>
  sql(
    `SELECT count(*) FROM attachments.attachment WHERE tenant_id = ${text(tenant)} AND state = ${text(state)}`,
  );

test("a set of three appears whole", async ({ page, tenant }) => {
  await open(page, tenant);
  await look(page, "entity-empty");
  await choose(page, [png(), pdf("Überweisung שלום.pdf"), note("家族の写真.txt")]);
  await expect(page.getByRole("button", { name: "Upload 3 files" })).toBeVisible();
  await look(page, "upload-chosen");
  await start(page, 3);
  await expect(page.getByRole("status").getByText("All 3 files are added.")).toBeVisible();
  await expect(files(page)).toHaveCount(3);
  await expect(page.getByText("家族の写真.txt")).toBeVisible();
  await expect(page.locator(".thumbnail img")).toBeVisible();
  await expect(page.getByText("Drop files here or")).toBeVisible();
  await look(page, "entity-files");
});

test("a large file comes in parts and goes on after a reload", async ({ page, tenant }) => {
  await open(page, tenant);
  let parts = 0;
  await page.route("**/v1/objects/*", async (route) => {
    if (route.request().method() !== "PUT") return route.continue();
    parts += 1;
    // The note and the first part go through; the second part hangs until the page is gone.
    if (parts === 3) return;
    await route.continue();
  });
  await choose(page, [large(), note()]);
  await start(page, 2);
  await expect.poll(() => parts).toBe(3);
  await look(page, "upload-running");
  await page.reload();
  await expect(page.getByText("Session restored")).toBeVisible();
  await look(page, "upload-restored");
  await start(page, 2);
  await expect(page.getByRole("status").getByText("All 2 files are added.")).toBeVisible({ timeout: 30_000 });
  // The second part again, and the third: nothing else was sent twice.
  expect(parts).toBe(5);
  await expect(files(page)).toHaveCount(2);
});

test("what the rules refuse is refused before anything is sent", async ({ page, tenant }) => {
  await open(page, tenant);
  const sent: string[] = [];
  page.on("request", (request) => {
    if (request.method() !== "GET") sent.push(request.url());
  });
  await drop(page, { name: "virus.exe", mimeType: "application/octet-stream", buffer: Buffer.from("MZ") });
  await expect(trouble(page)).toContainText("virus.exe");

  await choose(page, [{ ...note("empty.txt"), buffer: Buffer.alloc(0) }]);
  await expect(trouble(page)).toContainText("empty.txt");
  await look(page, "upload-refused");

  await choose(page, [png("fine.png"), { ...png("not-a.pdf"), mimeType: "application/pdf" }]);
  await start(page, 2);
  await expect(trouble(page)).toContainText("nothing was sent");
  await expect(trouble(page).getByRole("listitem")).toHaveCount(1);
  await expect(trouble(page).getByRole("listitem")).toContainText("not-a.pdf");
  await look(page, "upload-wrong-content");
  expect(sent).toEqual([]);

  // Without the wrong one, the other goes.
  await page.getByRole("button", { name: "Remove not-a.pdf" }).click();
  await page.getByRole("button", { name: "Retry" }).click();
  await expect(page.getByRole("status").getByText("fine.png is added.")).toBeVisible();
  await expect(files(page)).toHaveCount(1);
});

test("a file gets another name before it is sent", async ({ page, tenant }) => {
  await open(page, tenant);
  await choose(page, [note("image.txt"), png()]);
  const rename = async (from: string, to: string) => {
    await page.getByRole("button", { name: `Edit file ${from}` }).click();
    // As a person does it: Uppy takes in what is typed key by key.
    const field = page.getByRole("textbox", { name: "Name" });
    await field.press("ControlOrMeta+a");
    await field.pressSequentially(to, { delay: 20 });
    await page.getByRole("button", { name: "Save changes" }).click();
  };
  await rename("image.txt", "run.exe");
  await expect(trouble(page)).toContainText("image.txt was not renamed");
  await rename("image.txt", "from the train/2.txt");
  await expect(trouble(page)).toHaveCount(0);
  await look(page, "upload-renamed");
  await start(page, 2);
  await expect(page.getByRole("status").getByText("All 2 files are added.")).toBeVisible();
  await expect(files(page)).toHaveCount(2);
  await expect(page.getByText("2.txt")).toBeVisible();
  await expect(page.getByText("image.txt")).toHaveCount(0);
});

test("what the server refuses is said in its words, and nothing is added", async ({ page, tenant }) => {
  await open(page, tenant);
  await choose(page, [note()]);
  await start(page, 1);
  await expect(files(page)).toHaveCount(1);
  await choose(page, [note(), png()]);
  await start(page, 2);
  await expect(trouble(page)).toContainText("None of the files was added");
  await expect(trouble(page).getByRole("listitem")).toContainText("notes.txt");
  await look(page, "upload-name-taken");
  await expect(files(page)).toHaveCount(1);
  expect(await rows(tenant.name, "pending")).toBe("0");
});

test("another type than was declared drops the whole set", async ({ page, tenant }) => {
  await open(page, tenant);
  // The declaration lies, as a page that was tampered with would.
  await page.route("**/v1/uploads", async (route) => {
    const declaration = route.request().postDataJSON();
    for (const file of declaration.files) {
      file.name = file.name.replace(/\.\w+$/, ".pdf");
      delete file.media_type;
    }
    await route.continue({ postData: JSON.stringify(declaration) });
  });
  await choose(page, [note(), png()]);
  await start(page, 2);
  await expect(trouble(page)).toContainText("None of the files was added");
  await expect(trouble(page).getByRole("listitem")).toHaveCount(2);
  await look(page, "upload-rejected");
  await expect(files(page)).toHaveCount(0);

  await page.unroute("**/v1/uploads");
  await page.getByRole("button", { name: "Retry" }).first().click();
  await expect(page.getByRole("status").getByText("All 2 files are added.")).toBeVisible();
});

test("what was completed in the moment of a reload is not asked for again", async ({ page, tenant }) => {
  await open(page, tenant);
  // The answer comes when nobody is there any more.
  await page.route("**/v1/uploads/*/complete", async (route) => {
    await route.fetch();
  });
  await choose(page, [note()]);
  await start(page, 1);
  await expect.poll(() => rows(tenant.name, "available")).toBe("1");
  // Golden Retriever writes twice a second.
  await page.waitForTimeout(1000);
  await page.reload();
  await expect(files(page)).toHaveCount(1);
  await expect(page.getByText("Drop files here or")).toBeVisible();
  await expect(page.getByText("Session restored")).toHaveCount(0);
});

test("cancelling gives the whole set up", async ({ page, tenant }) => {
  await open(page, tenant);
  await page.route("**/v1/objects/*", () => undefined);
  await choose(page, [large(), note()]);
  await start(page, 2);
  await expect.poll(() => rows(tenant.name, "pending")).toBe("2");
  await page.getByRole("button", { name: "Cancel" }).first().click();
  await expect(page.getByRole("status").getByText("Cancelled")).toBeVisible();
  await expect.poll(() => rows(tenant.name, "pending")).toBe("0");
  await expect(files(page)).toHaveCount(0);
});

test("pausing stops, and resuming goes on", async ({ page, tenant }) => {
  await open(page, tenant);
  let held = 0;
  await page.route("**/v1/objects/*", async (route) => {
    held += 1;
    if (held > 1) await route.continue();
  });
  await choose(page, [large()]);
  await start(page, 1);
  await expect.poll(() => held).toBe(1);
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await expect(page.getByText("Paused", { exact: true })).toBeVisible();
  await look(page, "upload-paused");
  await page.getByRole("button", { name: "Resume", exact: true }).click();
  await expect(page.getByRole("status").getByText("long.txt is added.")).toBeVisible({ timeout: 30_000 });
});

test("going offline in the middle loses nothing", async ({ page, context, tenant }) => {
  await open(page, tenant);
  let parts = 0;
  await page.route("**/v1/objects/*", async (route) => {
    if (route.request().method() === "PUT") parts += 1;
    if (parts === 2) {
      await context.setOffline(true);
      await route.abort("internetdisconnected");
    } else await route.continue();
  });
  await choose(page, [large()]);
  await start(page, 1);
  await expect(page.getByText("Upload failed")).toBeVisible();
  await expect(trouble(page)).toContainText("Retry continues where it stopped");
  await look(page, "upload-offline");
  await context.setOffline(false);
  await expect(page.getByRole("status").getByText("long.txt is added.")).toBeVisible({ timeout: 30_000 });
  // Three parts, and the one that was broken off.
  expect(parts).toBe(4);
});

test("a reply that is lost is no failure", async ({ page, tenant }) => {
  await open(page, tenant);
  let puts = 0;
  await page.route("**/v1/objects/*", async (route) => {
    if (route.request().method() !== "PUT") return route.continue();
    puts += 1;
    if (puts === 1) await route.fetch();
    return puts === 1 ? route.abort("connectionreset") : route.continue();
  });
  await choose(page, [png()]);
  await start(page, 1);
  await expect(page.getByRole("status").getByText("locket.png is added.")).toBeVisible();
  expect(puts).toBe(2);
});

test("files are dropped and pasted", async ({ page, tenant }) => {
  await open(page, tenant);
  await drop(page, png());
  await expect(page.getByRole("button", { name: "Upload 1 file" })).toBeVisible();
  await page.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File(["Pasted.\n"], "pasted.txt", { type: "text/plain" }));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
  });
  await start(page, 2);
  await expect(files(page)).toHaveCount(2);
});

test("with a token that may only look, nothing can be added or deleted", async ({ page, tenant }) => {
  const id = await tenant.post("beach");
  await tenant.visit(page, `/entity/post/${id}`, { scope: "attachments:read" });
  await expect(page.getByRole("heading", { name: "beach" })).toBeVisible();
  await expect(page.getByText("Your token allows reading only")).toBeVisible();
  await expect(page.getByRole("button", { name: "Delete post" })).toHaveCount(0);
  await expect(page.locator(".dashboard")).toHaveCount(0);
  await look(page, "entity-read-only");
});
