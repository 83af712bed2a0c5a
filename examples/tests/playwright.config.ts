import { defineConfig } from "@playwright/test";
import page from "../../page/tests/playwright.config";

export default defineConfig(page, { fullyParallel: false, workers: 1, globalTimeout: 5 * 60_000 });
