// SPDX-License-Identifier: Apache-2.0
/**
 * Vitest on this computer; the nested machines run the same tests compiled, by test/support/light-runner.ts.
 *
 *     npx vitest run --project unit
 *     npx vitest run test/kvm/raw-run.test.ts -t "port I/O"
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";
import { LIMITS, SUITES } from "./test/support/places.js";
import { ResultsReporter } from "./test/support/reporter.js";

export default defineConfig({
  // Not below node_modules: that may be read-only.
  cacheDir: join(tmpdir(), "v3m-vite"),
  test: {
    reporters: ["default", new ResultsReporter()],
    // A process of its own for each file: libvmmhpc lives in it.
    pool: "forks",
    maxWorkers: 2,
    projects: SUITES.map((name) => ({
      extends: true as const,
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        testTimeout: LIMITS[name],
        hookTimeout: LIMITS[name],
        // Guests and machines share the CPUs: one file after the other.
        fileParallelism: name === "unit",
      },
    })),
  },
});
