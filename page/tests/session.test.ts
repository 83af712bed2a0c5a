// Who gets in, and what stays behind.

import type { Page } from "@playwright/test";
import { expect, expectAccessible, look, Tenant, test } from "./world";

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
  await expect(page.getByText("You are signed out")).toBeVisible();
  await page.reload();
  await expect(page.getByLabel("Token")).toBeVisible();
});

/** Forms of a link with a token, all of which a browser would follow. */
const LINKS = {
  "behind the hash": (token: string) => `/#token=${token}`,
  "behind a path": (token: string) => `/#/token=${token}`,
  "behind something else": (token: string) => `/#/?place=x&token=${token}`,
  "by another spelling": (token: string) => `/#%74oken=${token}`,
} as const;

/** What an address, and each that one can go back to, must not have. */
async function expectForgotten(page: Page, token: string): Promise<void> {
  expect(page.url()).not.toContain(token);
  await page.goBack();
  expect(page.url()).not.toContain(token);
}

for (const [form, link] of Object.entries(LINKS)) {
  test(`a link does not make somebody of who is somebody else: ${form}`, async ({ page, tenant }) => {
    const attacker = new Tenant();
    const token = attacker.token({ sub: "mallory" });
    await tenant.visit(page, "/files");
    await expect(page.getByRole("heading", { name: "Files", level: 1 })).toBeVisible();
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.headers().authorization ?? ""));

    await page.evaluate((address) => location.assign(address), link(token));
    const question = page.getByRole("alertdialog", { name: "Sign in as somebody else?" });
    await expect(question).toContainText(`ada of ${tenant.name}`);
    await expect(question).toContainText(`mallory of ${attacker.name}`);
    await expect(page.getByRole("button", { name: "Stay signed in" })).toBeFocused();
    await page.keyboard.press("Escape");
    await expect(question).toBeHidden();
    await expect(page.getByRole("heading", { name: "Files", level: 1 })).toBeVisible();
    await expectForgotten(page, token);
    await page.reload();
    await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
    expect(asked.filter((bearer) => bearer.includes(token))).toEqual([]);
  });
}

test("a link that is opened anew asks as well, and signs in who wants it", async ({ page, tenant }) => {
  const other = new Tenant();
  await tenant.visit(page);
  const token = other.token({ sub: "bob" });
  await page.goto("about:blank");
  await page.goto(`/#token=${token}`);
  expect(page.url()).not.toContain(token);
  const question = page.getByRole("alertdialog");
  await expect(question).toContainText(`bob of ${other.name}`);
  await look(page, "swap");
  // The page behind it cannot be used meanwhile, and a reload answers nothing.
  await page.reload();
  await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
  await expect(question).toBeHidden();

  await page.goto(`/#token=${token}`);
  await question.getByRole("button", { name: "Sign in as the other" }).click();
  await expect(page.getByText(`bob of ${other.name}`)).toBeVisible();
  await expect(question).toBeHidden();
  await page.reload();
  await expect(page.getByText(`bob of ${other.name}`)).toBeVisible();
  await expectForgotten(page, token);
});

test("a name in a link is text, however it is made", async ({ page, tenant }) => {
  const hostile = new Tenant();
  await tenant.visit(page);
  const names = [
    ["<img src=x onerror=alert(1)><script>alert(1)</script>", "<img src=x onerror=alert(1)>"],
    ["ada\u202e\u0000\u200badmin", "ada\ufffdadmin"],
    ["\u2066\n\t", "\ufffd"],
    ["", "unknown user"],
    ["w".repeat(5000), `${"w".repeat(100)}…`],
  ];
  const alerts: string[] = [];
  page.on("dialog", (dialog) => {
    alerts.push(dialog.message());
    dialog.dismiss();
  });
  for (const [sub, shown] of names) {
    await page.goto(`/#token=${hostile.token({ sub: sub ?? "" })}`);
    const offered = page.getByRole("alertdialog").getByRole("definition").last();
    await expect(offered).toContainText(shown ?? "");
    await expect(offered.locator("img, script")).toHaveCount(0);
    await expect(page.getByRole("button", { name: "Stay signed in" })).toBeInViewport();
    await expectAccessible(page);
    await page.getByRole("button", { name: "Stay signed in" }).click();
  }
  expect(alerts).toEqual([]);
});

test("a link with no token that can be read, or one’s own, changes nothing", async ({ page, tenant }) => {
  const own = tenant.token();
  await page.goto(`/#token=${own}`);
  await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
  for (const token of ["", "x", "a.b.c", "e30", own]) {
    await page.goto(`/#token=${token}`);
    await expect(page).not.toHaveURL(/token/);
    await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
    await expect(page.getByRole("alertdialog")).toBeHidden();
  }
  await page.goto("/#/bin/%");
  await expect(page.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
});

test("no other way than a link and the door brings a token in", async ({ page, tenant }) => {
  const attacker = new Tenant();
  const token = attacker.token({ sub: "mallory" });
  await page.goto(`/?token=${token}`);
  await expect(page.getByLabel("Token")).toBeVisible();
  await expect(page).not.toHaveURL(/token/);

  await tenant.visit(page);
  await page.evaluate((token) => {
    window.name = `token=${token}`;
    for (const key of ["token", "keepsake.token"]) {
      localStorage.setItem(key, token);
      // biome-ignore lint/suspicious/noDocumentCookie: any page of the host may set one
      document.cookie = `${key}=${token}`;
      dispatchEvent(new StorageEvent("storage", { key, newValue: token, storageArea: localStorage }));
    }
    for (const data of [token, `token=${token}`, { token }]) postMessage(data, "*");
  }, token);
  await page.getByRole("link", { name: "Files" }).click();
  await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
  await page.reload();
  await expect(page.getByText(`ada of ${tenant.name}`)).toBeVisible();
});

test("a token that has run out is asked for again", async ({ page, tenant }) => {
  await page.goto(`/#token=${tenant.token({ lasts: -3600 })}`);
  await expect(page.getByRole("alert")).toContainText("Your token has expired");
  await look(page, "door-expired");
});

test("a token that opens nothing is told so, and what to ask for", async ({ page, tenant }) => {
  await tenant.visit(page, "/", { tenant: "" });
  await expect(page.getByRole("heading", { name: "Your token opens nothing here" })).toBeVisible();
  await expect(page.getByText("The token names no tenant")).toBeVisible();
  await look(page, "barred");
  await page.getByRole("button", { name: "Sign out" }).click();
  await tenant.visit(page, "/", { scope: "metrics" });
  await expect(page.getByText("The token may not read attachments")).toBeVisible();
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

  expect((await request.head("/")).status()).toBe(200);
  expect((await request.post("/")).status()).toBe(405);

  const script = await page.locator("script").getAttribute("src");
  const served = await request.get(script ?? "");
  expect(served.headers()["cache-control"]).toBe("public, max-age=31536000, immutable");
});

test("an address of nothing says so", async ({ page, tenant }) => {
  await tenant.visit(page, "/nowhere");
  await expect(page.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
  await look(page, "nowhere");
});
