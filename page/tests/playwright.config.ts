// Real Chromium, the machine's own: a fresh machine cannot download Playwright's.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig } from "@playwright/test";
import { given } from "./given";

const SWITCHES = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export default defineConfig({
  testDir: ".",
  testMatch: "*.test.ts",
  outputDir: join(tmpdir(), `keepsake-browser-${process.pid}`),
  // What is left of a failure is kept with the pictures.
  preserveOutput: process.env.KEEPSAKE_PICTURES ? "failures-only" : "never",
  reporter: [["list"]],
  forbidOnly: true,
  fullyParallel: true,
  workers: 2,
  timeout: 120_000,
  globalTimeout: 20 * 60_000,
  expect: { timeout: 20_000 },
  use: {
    baseURL: given("KEEPSAKE_URL"),
    locale: "en-GB",
    timezoneId: "UTC",
    viewport: { width: 1100, height: 800 },
    reducedMotion: "reduce",
    launchOptions: {
      executablePath: given("KEEPSAKE_CHROMIUM"),
      // Chromium's sandbox does not run as root.
      chromiumSandbox: process.getuid?.() !== 0,
      args: SWITCHES,
    },
  },
});
