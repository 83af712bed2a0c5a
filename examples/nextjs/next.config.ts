import path from "node:path";
import type { NextConfig } from "next";

const config: NextConfig = {
  // The client comes from this repository; an application that installs it needs neither line.
  turbopack: { root: path.join(import.meta.dirname, "../..") },
  outputFileTracingRoot: path.join(import.meta.dirname, "../.."),
};

export default config;
