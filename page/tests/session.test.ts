// Who gets in, and what stays behind.

import { expect, look, Tenant, test } from "./world";

test("without a token the page says what it needs", async ({ page, tenant }) => {
  await page.goto("/");
  await expect(page.getByRole("heading", { name: "Keepsake" })).toBeVisible();
  // What it is about, to who has no token yet.
  await expect(page.getByText("deletion that can be undone")).toBeVisible();
  await expect(page.getByRole("listitem")).toHaveCount(4);
  await look(page, "door");

  await page.getByLabel("Token").fill("no token at all");
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByRole("alert")).toContainText("This is not a token");
  await look(page, "door-refused");

  await page.getByLabel("Token").fill(tenant.token());
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
});

test("a token in the address goes from there, and from the window when its person goes", async ({
  page,
  tenant,
}) => {
  await tenant.visit(page);
  expect(page.url()).not.toContain("token");
  await page.reload();
  await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();

  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByText("You have signed out")).toBeVisible();
  await page.reload();
  await expect(page.getByLabel("Token")).toBeVisible();
});

test("a token that has run out is asked for again", async ({ page, tenant }) => {
  await page.goto(`/#token=${tenant.token({ lasts: -3600 })}`);
  await expect(page.getByRole("alert")).toContainText("Your token has run out");
  await look(page, "door-expired");
});

test("a token that opens nothing is told so, and what to ask for", async ({ page, tenant }) => {
  await tenant.visit(page, "/", { tenant: "" });
  await expect(page.getByRole("heading", { name: "Your token opens nothing here" })).toBeVisible();
  await expect(page.getByText("It names no tenant")).toBeVisible();
  await look(page, "barred");
  await page.getByRole("button", { name: "Sign out" }).click();
  await tenant.visit(page, "/", { scope: "metrics" });
  await expect(page.getByText("It has no right to read attachments")).toBeVisible();
});

test("how it works is told above the posts, until it is folded", async ({ page, tenant }) => {
  await tenant.post("beach");
  await tenant.visit(page);
  const step = page.getByText("Drop files on a post");
  await expect(step).toBeVisible();
  await expect(page.getByRole("link", { name: "beach" })).toBeVisible();
  await look(page, "posts-story");
  await page.getByText("How Keepsake works").click();
  await expect(step).toBeHidden();
  await page.reload();
  await expect(page.getByText("How Keepsake works")).toBeVisible();
  await expect(step).toBeHidden();
});

test("two windows are two people", async ({ page, context, tenant }) => {
  const other = new Tenant();
  const second = await context.newPage();
  await tenant.visit(page);
  await other.visit(second, "/", { sub: "bob" });
  await page.reload();
  await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
  await expect(second.getByText(`bob of ${other.name}`)).toBeVisible();
});

test("the page runs nothing but its own files, and nobody may frame it", async ({ page, request }) => {
  const hosts = new Set<string>();
  page.on("request", (sent) => {
    if (sent.url().startsWith("http")) hosts.add(new URL(sent.url()).host);
  });
  await page.goto("/");
  await expect(page.getByLabel("Token")).toBeVisible();
  expect([...hosts]).toEqual([new URL(page.url()).host]);

  const { headers } = { headers: (await request.get("/")).headers() };
  expect(headers["content-security-policy"]).toContain("default-src 'none'");
  expect(headers["content-security-policy"]).toContain("frame-ancestors 'none'");
  expect(headers["content-security-policy"]).not.toContain("unsafe-inline");
  expect(headers["x-content-type-options"]).toBe("nosniff");
  expect(headers["referrer-policy"]).toBe("no-referrer");
  expect(headers["cache-control"]).toBe("no-cache");

  const script = await page.locator("script").getAttribute("src");
  const served = await request.get(script ?? "");
  expect(served.headers()["cache-control"]).toBe("public, max-age=31536000, immutable");
});

test("an address of nothing says so", async ({ page, tenant }) => {
  await tenant.visit(page, "/nowhere");
  await expect(page.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
  await look(page, "nowhere");
});
