// Nothing jumps while it loads, however slow the network is.

import { add, open } from "./entity";
import { note, png } from "./files";
import { expect, test } from "./world";

/** What moved on the page by itself: https://wicg.github.io/layout-instability/ */
interface Shift extends PerformanceEntry {
  readonly value: number;
  readonly hadRecentInput: boolean;
  readonly sources: readonly { readonly node: Node | null }[];
}

declare global {
  interface Window {
    shifts: string[];
    shifted: number;
  }
}

test("no view moves what is in it while the rest arrives", async ({ page, tenant }) => {
  const id = await open(page, tenant, "steady");
  await add(page, [png(), note()]);
  const gone = await tenant.post("gone");
  const deletion = await tenant.sql(`SELECT keepsake.soft_delete('post', ${gone})`);
  await tenant.visit(page, "/", { scope: "attachments:read attachments:write operator" });

  await page.addInitScript(() => {
    window.shifts = [];
    window.shifted = 0;
    const observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as Shift[]) {
        if (entry.hadRecentInput) continue;
        window.shifted += entry.value;
        for (const { node } of entry.sources) {
          window.shifts.push(
            node instanceof Element ? `${node.tagName}.${node.className}` : String(node?.textContent),
          );
        }
      }
    });
    observer.observe({ type: "layout-shift", buffered: true });
  });
  // Each answer a little later than the one before, so that everything that could move something does.
  let turn = 0;
  await page.route(/\/(v1|assets)\//, async (route) => {
    turn += 1;
    await new Promise((done) => setTimeout(done, 100 + 60 * (turn % 5)));
    await route.continue();
  });

  for (const [address, there] of [
    ["/", page.getByRole("link", { name: "steady" })],
    ["/entities/thread", page.getByRole("link", { name: "A thread" }).first()],
    [`/entity/post/${id}`, page.getByText("Drop files here or")],
    ["/files", page.getByText("notes.txt", { exact: true })],
    ["/bin", page.getByRole("link", { name: "gone" })],
    [`/bin/${deletion}`, page.getByRole("heading", { name: "What went with it" })],
    ["/operator", page.getByRole("heading", { name: "Audit" })],
  ] as const) {
    await page.goto(`/#${address}`);
    await page.reload();
    await expect(there).toBeVisible();
    await page.waitForTimeout(1500);
    const moved = await page.evaluate(() => ({ by: window.shifted, what: window.shifts }));
    // A hundredth is a tenth of what counts as good.
    expect(moved.by, `${address}: ${moved.what.join(", ")}`).toBeLessThan(0.01);
  }
});
