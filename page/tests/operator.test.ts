// What whoever runs it sees, and mends.

import { expect, look, sql, test, text } from "./world";

const scope = "attachments:read attachments:write operator";

/** Two weeks of a service that grows, with a bad day in them. */
const HISTORY = `
  DELETE FROM attachments.sample;
  INSERT INTO attachments.sample
  SELECT now() - make_interval(hours => n),
         jsonb_build_object('available', 4200 - n, 'deleted', 300, 'quarantined', 2),
         jsonb_build_object('available', (9.2e9 - n * 1.1e7 + 4e8 * sin(n / 11.0))::bigint,
                            'deleted', (2.1e9 + 5e8 * sin(n / 19.0))::bigint, 'quarantined', 2.5e7::bigint),
         37, 2, 0, (400 + 380 * sin(n / 12.0))::bigint, (CASE WHEN n BETWEEN 30 AND 50 THEN 900 ELSE 90 END), 3, 1
  FROM generate_series(0, 330) AS n`;

test.describe.configure({ mode: "serial" });

test("storage and backlog are drawn, and stand in a table as well", async ({ page, tenant }) => {
  await sql(HISTORY);
  await tenant.visit(page, "/", { scope, sub: "olga" });
  await page.getByRole("link", { name: "Operations" }).click();
  await expect(page.getByRole("heading", { name: "Operations" })).toBeVisible();
  await expect(page.locator(".chart canvas")).toHaveCount(2);
  await expect(page.getByText("4,200 files")).toBeVisible();
  await look(page, "operator");

  const storage = page.getByRole("figure", { name: "Storage" });
  const recent = await storage.locator(".legend strong").first().textContent();
  await storage.locator(".u-over").hover({ position: { x: 20, y: 60 } });
  await expect(storage.locator(".legend strong").first()).not.toHaveText(recent ?? "");
  await storage.getByText("As a table").click();
  await expect(storage.getByRole("columnheader", { name: "In the bin" })).toBeVisible();
  await expect(storage.getByRole("row").nth(1)).toContainText("9.2 GB");
  await look(page, "operator-table");

  await sql("DELETE FROM attachments.sample WHERE taken_at > now() - interval '30 hours'");
  await page.getByRole("radio", { name: "24 hours" }).check();
  await expect(page.getByRole("heading", { name: "No samples in this period" })).toBeVisible();
});

test("the dry run says what would go, and a hold keeps it", async ({ page, tenant }) => {
  const id = await tenant.post("evidence");
  await tenant.sql(`SELECT keepsake.soft_delete('post', ${id})`);
  await tenant.visit(page, "/operator", { scope, sub: "olga" });
  const plan = page.getByRole("region", { name: "Next purge" });
  await expect(plan.getByRole("columnheader", { name: "Not expired" })).toBeVisible();
  await plan.getByRole("radio", { name: "In 30 days" }).check();
  await expect(plan.getByRole("columnheader", { name: "Would be purged" })).toBeVisible();

  const holds = page.getByRole("region", { name: "Legal holds" });
  await holds.getByText("Place a hold").click();
  await holds.getByLabel("What").selectOption("entity");
  await holds.getByLabel("Entity type").fill("post");
  await holds.getByLabel("Its id").fill(id);
  await holds.getByLabel("Reason").fill("A lawsuit");
  await look(page, "operator-hold");
  await holds.getByRole("button", { name: "Place the hold" }).click();
  const held = holds.getByRole("listitem").filter({ hasText: `Post “evidence” (${id})` });
  await expect(held).toContainText("A lawsuit");
  await expect(held).toContainText("by olga");
  await tenant.sql(`UPDATE keepsake.deletion SET expires_at = now() WHERE root_key = '{"id": ${id}}'`);
  await page.reload();
  await expect(plan.getByRole("columnheader", { name: "Held" })).toBeVisible();

  await held.getByRole("button", { name: "Release" }).click();
  await held.getByLabel("Reason for the release").fill("It was settled");
  await held.getByRole("button", { name: "Release" }).click();
  await expect(page.getByRole("status").getByText("is no longer on hold")).toBeVisible();
  await expect(held).toHaveCount(0);
  await holds.getByRole("radio", { name: "Released" }).check();
  await expect(held).toContainText("released by olga");
});

test("a hold on what is not there is refused in words", async ({ page, tenant }) => {
  await tenant.visit(page, "/operator", { scope, sub: "olga" });
  const holds = page.getByRole("region", { name: "Legal holds" });
  await holds.getByText("Place a hold").click();
  await holds.getByLabel("What").selectOption("deletion");
  await holds.getByLabel("Its id").fill("nonsense");
  await holds.getByLabel("Reason").fill("A lawsuit");
  await holds.getByRole("button", { name: "Place the hold" }).click();
  await expect(page.getByRole("status").getByText("There is no such deletion to hold.")).toBeVisible();
});

test("what was given up is tried again, and what failed is told", async ({ page, tenant }) => {
  const key = `t/${tenant.name}/post/1/0198f7d0-1111-7aaa-8bbb-000000000001.png`;
  await sql(
    `INSERT INTO keepsake.outbox (object_key, relation, attempts, last_error, dead_at)
     VALUES (${text(key)}, 'attachments.attachment', 12, 'the store said 503', now())`,
  );
  await sql(
    `INSERT INTO attachments.run (step, started_at, finished_at, outcome, error)
     VALUES ('drain', now(), now(), 'failed', 'the store cannot be reached')`,
  );
  await sql(
    `INSERT INTO attachments.audit_finding (object_key, kind, pass) VALUES (${text(`${key}.lost`)}, 'missing', 1)`,
  );
  await tenant.visit(page, "/operator", { scope, sub: "olga" });
  const outbox = page.getByRole("region", { name: "Objects to delete" });
  const dead = outbox.getByRole("listitem").filter({ hasText: key });
  await expect(dead).toContainText("the store said 503");
  const audit = page.getByRole("region", { name: "Audit" });
  await expect(audit.getByRole("listitem").filter({ hasText: `${key}.lost` })).toContainText("Missing");
  const failures = page.getByRole("region", { name: "Recent failures" });
  await expect(failures.getByRole("listitem").first()).toContainText("the store cannot be reached");
  await look(page, "operator-trouble");

  await dead.getByRole("button", { name: "Retry" }).click();
  await expect(page.getByRole("status").getByText("head of the queue")).toBeVisible();
  await expect(dead).toHaveCount(0);
  await outbox.getByRole("radio", { name: "Waiting" }).check();
  await expect(dead).toContainText("Waiting");
});

test("an event that nobody took is told, and delivered again when asked", async ({ page, tenant }) => {
  const attachment = "0198f7d0-2222-7aaa-8bbb-000000000001";
  await sql(
    `INSERT INTO attachments.event (type, tenant_id, attachment_id, entity_type, entity_id, attempts, last_error, dead_at)
     VALUES ('attachment.available', ${text(tenant.name)}, '${attachment}', 'post', '1', 14, 'the receiver answered 500', now())`,
  );
  await tenant.visit(page, "/operator", { scope, sub: "olga" });
  const events = page.getByRole("region", { name: "Events to deliver" });
  const dead = events.getByRole("listitem").filter({ hasText: attachment });
  await expect(dead).toContainText("attachment.available");
  await expect(dead).toContainText("14 attempts");
  await expect(dead).toContainText("the receiver answered 500");
  await look(page, "operator-events");

  await dead.getByRole("button", { name: "Retry: attachment.available" }).click();
  await expect(page.getByRole("status").getByText("head of the queue")).toBeVisible();
  await expect(dead).toHaveCount(0);
  await sql(`DELETE FROM attachments.event WHERE attachment_id = '${attachment}'`);
});

test("an erasure is confirmed before it is done, and its certificate stays", async ({ page, tenant }) => {
  await tenant.post("to be forgotten");
  await tenant.visit(page, "/operator", { scope, sub: "olga" });
  const erasures = page.getByRole("region", { name: "Erasures" });
  await erasures.getByText("Erase a tenant or a person").click();
  await erasures.getByLabel("Tenant", { exact: true }).fill(tenant.name);
  await erasures.getByLabel("Reason").fill(`Ticket of ${tenant.name}`);
  await erasures.getByRole("button", { name: "Erase…" }).click();
  await expect(erasures.getByRole("group", { name: "Confirm the erasure" })).toContainText(tenant.name);
  await look(page, "operator-erasure");

  await erasures.getByRole("button", { name: "Cancel" }).click();
  await expect(erasures.getByRole("group", { name: "Confirm the erasure" })).toHaveCount(0);
  await erasures.getByRole("button", { name: "Erase…" }).click();
  await erasures.getByRole("button", { name: "Erase now" }).click();
  await expect(page.getByRole("status").getByText("The certificate is")).toBeVisible();
  const certificate = erasures.getByRole("listitem").filter({ hasText: `Ticket of ${tenant.name}` });
  await expect(certificate).toContainText("A tenant");
  await expect(certificate).toContainText("by olga");
  await expect(certificate).toContainText("removed");

  expect(await sql(`SELECT count(*) FROM post WHERE tenant = ${text(tenant.name)}`)).toBe("0");
});

test("an operator of no tenant is shown what is theirs, and nothing that is not", async ({
  page,
  tenant,
}) => {
  await tenant.visit(page, "/", { scope: "operator", sub: "olga", tenant: "" });
  await expect(page.getByRole("heading", { name: "Operations" })).toBeVisible();
  const places = page.getByRole("navigation", { name: "Main" }).getByRole("link");
  await expect(places).toHaveText(["Operations"]);
  await page.goto("/#/bin");
  await expect(page.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
  await page.getByRole("link", { name: "Go to the start page" }).click();
  await expect(page.getByRole("heading", { name: "Operations" })).toBeVisible();
});

test("nobody else is shown the way there", async ({ page, tenant }) => {
  await tenant.visit(page, "/operator");
  await expect(page.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
  await expect(page.getByRole("link", { name: "Operations" })).toHaveCount(0);
});
