// Each test has a tenant of its own, with whatever it needs in the example application.

import { execFile } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { promisify } from "node:util";
import AxeBuilder from "@axe-core/playwright";
import { test as base, expect, type Page } from "@playwright/test";
import { given } from "./given";

const run = promisify(execFile);

interface Claims {
  readonly sub?: string;
  readonly scope?: string;
  /** Another than its own: empty for none. */
  readonly tenant?: string;
  /** Seconds from now. */
  readonly lasts?: number;
}

/** A tenant and its people. */
export class Tenant {
  readonly name = `t${randomUUID().slice(0, 8)}`;

  /** A bearer token (RFC 7519, HS256), as the application would make it. */
  token(claims: Claims = {}): string {
    const { sub = "ada", scope = "attachments:read attachments:write", lasts = 3600 } = claims;
    const tenant = (claims.tenant ?? this.name) || undefined;
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const told = { sub, scope, tenant, exp: Math.floor(Date.now() / 1000) + lasts };
    const signed = `${part({ alg: "HS256", typ: "JWT", kid: given("KEEPSAKE_KEY_ID") })}.${part(told)}`;
    const key = Buffer.from(given("KEEPSAKE_JWT_KEY"), "hex");
    return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
  }

  /** Goes to an address of the page as one of the tenant's people. */
  async visit(page: Page, address = "/", claims?: Claims): Promise<void> {
    // The window may be somebody else's, and would ask.
    if (page.url().startsWith("http")) await page.evaluate(() => sessionStorage.clear());
    await page.goto(`/#token=${this.token(claims)}`);
    await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
    if (address !== "/") await page.goto(`/#${address}`);
  }

  /** Runs SQL as the superuser under the claims of one of the tenant's people. */
  sql(statement: string): Promise<string> {
    const claims = JSON.stringify({ sub: "ada", tenant: this.name });
    return sql(`SET "request.jwt.claims" = ${text(claims)}; ${statement}`);
  }

  /** A new thread; its id. */
  async thread(title: string): Promise<string> {
    return sql(`INSERT INTO thread (tenant, title) VALUES (${text(this.name)}, ${text(title)}) RETURNING id`);
  }

  /** A new post in a thread, or in a new one; its id. */
  async post(slug: string, body = "A post.", thread?: string): Promise<string> {
    const of = thread ?? (await this.thread("A thread"));
    const values = [text(this.name), of, text(slug), text(body)];
    return sql(`INSERT INTO post (tenant, thread_id, slug, body) VALUES (${values}) RETURNING id`);
  }
}

/** Tells what a scanner found in a file of a tenant, as it would. */
export async function judge(tenant: Tenant, name: string, verdict: "clean" | "infected"): Promise<void> {
  const object_key = await sql(
    `SELECT object_key FROM attachments.attachment
     WHERE tenant_id = ${text(tenant.name)} AND file_name = ${text(name)} AND state = 'scanning'`,
  );
  const body = JSON.stringify({ object_key, verdict });
  const now = Math.floor(Date.now() / 1000);
  const signed = `keepsake scan result, version 1\n${now}\n${body}`;
  const mac = createHmac("sha256", "scan".repeat(8)).update(signed).digest("hex");
  const headers = {
    "content-type": "application/json",
    "keepsake-timestamp": String(now),
    "keepsake-signature": `scanner.${mac}`,
  };
  const told = await fetch(`${given("KEEPSAKE_URL")}/v1/scan-results`, { method: "POST", headers, body });
  expect(told.status).toBe(204);
}

/** Runs SQL as the superuser; the first line of what it returns. */
export async function sql(statement: string): Promise<string> {
  const { stdout } = await run(given("KEEPSAKE_PSQL"), [
    "-X",
    "-A",
    "-t",
    "-q",
    "-v",
    "ON_ERROR_STOP=1",
    "-c",
    statement,
    given("KEEPSAKE_DATABASE_URL"),
  ]);
  return stdout.split("\n")[0] ?? "";
}

/** A text as SQL writes it. */
export const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;

/** Shows the page in a theme, and waits until every colour is that of it. */
async function dress(page: Page, colorScheme: "light" | "dark"): Promise<void> {
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  await page.evaluate(async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    await frame();
    await Promise.race([
      Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => undefined))),
      new Promise((done) => setTimeout(done, 300)),
    ]);
    await frame();
  });
}

const PHONE = { width: 390, height: 844 };

/** Finds nothing to object to for WCAG 2.2 AA, in either theme and on a phone. */
export async function expectAccessible(page: Page): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await dress(page, colorScheme);
    await expectNoViolations(page, colorScheme);
  }
  await onPhone(page, () => expectNoViolations(page, "phone"));
}

async function expectNoViolations(page: Page, where: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page })
    .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"])
    .analyze();
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
  expect(found, where).toEqual([]);
}

async function onPhone(page: Page, act: () => Promise<unknown>): Promise<void> {
  const wide = page.viewportSize();
  await page.setViewportSize(PHONE);
  await act();
  if (wide) await page.setViewportSize(wide);
}

/** Keeps a picture of every state in both themes, when a folder for them is given. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.KEEPSAKE_PICTURES;
  if (!folder) return;
  for (const colorScheme of ["light", "dark"] as const) {
    await dress(page, colorScheme);
    await page.screenshot({ path: `${folder}/${name}-${colorScheme}.png`, fullPage: true });
  }
  await onPhone(page, () => page.screenshot({ path: `${folder}/${name}-phone.png`, fullPage: true }));
}

/** Looks at a state: nothing is inaccessible, and there is a picture of it if wanted. */
export async function look(page: Page, name: string): Promise<void> {
  await expectAccessible(page);
  await picture(page, name);
}

interface Fixtures {
  readonly tenant: Tenant;
  /** Everything in the browser that nobody meant to happen. */
  readonly complaints: string[];
}

export const test = base.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads what is asked for from the pattern
  tenant: async ({}, use) => use(new Tenant()),
  complaints: [
    async ({ context }, use) => {
      const complaints: string[] = [];
      context.on("weberror", (error) => complaints.push(error.error().message));
      context.on("console", (message) => {
        // Chromium's own word for what a server refuses is no complaint.
        if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
          complaints.push(message.text());
        }
      });
      const known = [given("KEEPSAKE_URL"), given("KEEPSAKE_STORE_URL")].map((url) => new URL(url).origin);
      context.on("request", (request) => {
        const { protocol, origin } = new URL(request.url());
        if (protocol.startsWith("http") && !known.includes(origin)) complaints.push(`It asked ${origin}.`);
      });
      await use(complaints);
      expect(complaints).toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };
