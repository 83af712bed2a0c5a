// A post with its files, as a person goes about it.

import type { Page } from "@playwright/test";
import type { TestFile } from "./files";
import { expect, type Tenant } from "./world";

/** A new post, looked at. */
export async function open(page: Page, tenant: Tenant, slug = "beach"): Promise<string> {
  const id = await tenant.post(slug);
  await tenant.visit(page, `/entity/post/${id}`);
  await expect(page.getByRole("heading", { name: slug })).toBeVisible();
  await ready(page);
  return id;
}

/** Waits until the dashboard takes files: what is chosen before is lost. */
export const ready = (page: Page): Promise<void> =>
  expect(page.getByText("Drop files here or")).toBeVisible();

export async function choose(page: Page, chosen: readonly TestFile[]): Promise<void> {
  await page
    .locator(".uppy-Dashboard-input")
    .first()
    .setInputFiles([...chosen]);
}

/** Drops a file onto the dashboard. */
export async function drop(page: Page, { name, mimeType, buffer }: TestFile): Promise<void> {
  const given = { name, type: mimeType, base64: buffer.toString("base64") };
  const dataTransfer = await page.evaluateHandle(({ name, type, base64 }) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
    return transfer;
  }, given);
  const place = page.locator(".uppy-Dashboard-inner");
  await place.dispatchEvent("dragover", { dataTransfer });
  await place.dispatchEvent("drop", { dataTransfer });
}

export const start = (page: Page, count: number): Promise<void> =>
  page.getByRole("button", { name: count === 1 ? "Upload 1 file" : `Upload ${count} files` }).click();

/** Uploads these, and waits until they are there. */
export async function add(page: Page, chosen: readonly TestFile[]): Promise<void> {
  await choose(page, chosen);
  await start(page, chosen.length);
  await expect(files(page)).toHaveCount(chosen.length);
}

export const files = (page: Page) =>
  page.getByRole("region", { name: "Files", exact: true }).getByRole("listitem");

/** What is wrong with an upload. */
export const trouble = (page: Page) => page.locator(".trouble");
