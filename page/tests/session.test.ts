// Who gets in, and what stays behind.

import { expect, look, Tenant, test } from "./world";

test("without a token the page says what it needs", async ({ page, tenant }) => {
  await page.goto("/");
  await expect(page.getByRole("heading", { name: "Keepsake" })).toBeVisible();
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
