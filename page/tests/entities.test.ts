// More posts than fit on one page of their listing.

import { expect, sql, test, text } from "./world";

test("posts come page by page, and a search narrows them at once", async ({ page, tenant }) => {
  const thread = await tenant.thread("Many");
  await sql(
    `INSERT INTO post (tenant, thread_id, slug, body)
     SELECT ${text(tenant.name)}, ${thread}, 'post-' || n, '' FROM generate_series(101, 160) AS n`,
  );
  await tenant.visit(page);
  const posts = page.locator(".rows").getByRole("listitem");
  await expect(posts).toHaveCount(50);
  await expect(posts.first()).toContainText("post-160");
  await page.getByRole("button", { name: "Show more" }).click();
  await expect(posts).toHaveCount(60);
  await expect(posts.last()).toContainText("post-101");
  await expect(page.getByRole("button", { name: "Show more" })).toHaveCount(0);

  const search = page.getByLabel("Search the posts");
  await search.fill("post-107");
  await expect(posts).toHaveCount(1);
  // What there was stands until the answer is there: no flash of nothing in between.
  await page.evaluate(() => {
    const seen = { bones: 0 };
    new MutationObserver(() => {
      seen.bones += document.querySelectorAll(".bone").length;
    }).observe(document.body, { childList: true, subtree: true });
    Object.assign(window, { seen });
  });
  await search.fill("post-15");
  await expect(posts).toHaveCount(10);
  expect(await page.evaluate(() => (window as unknown as { seen: { bones: number } }).seen.bones)).toBe(0);
  await search.fill("nothing such");
  await expect(page.getByRole("heading", { name: "No post of that name" })).toBeVisible();
});
