// SPDX-License-Identifier: Apache-2.0
/** Running a benchmark where it has to run: here, or the same command line inside the nested machine. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";

/** Given to a program that `runNested` runs: measure here, write the JSON, leave the rest to the caller. */
export const INSIDE = "inside";

/**
 * Run this same program inside the nested machine, with the results directory shared.
 * @returns its exit code
 */
export function runNested(results: string, args: readonly string[], timeoutSeconds: number): Promise<number> {
  const testbed = join(packageRoot(), "dist/harness/main.js");
  const command = [process.execPath, process.argv[1] ?? "", ...args, `--${INSIDE}`, "--results", results];
  const child = spawn(
    process.execPath,
    [testbed, "--no-stdin", "--timeout", String(timeoutSeconds), "--out", results, "--", ...command],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}
