// SPDX-License-Identifier: Apache-2.0
/** A program on the lightweight kernel, run to its end, with what it printed. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { V3mError } from "../errors.js";
import { failureOf, Launched, type LaunchOptions, type Outcome } from "../yod/index.js";

export interface Captured {
  readonly outcome: Outcome;
  readonly stdout: string;
}

/**
 * Its standard output goes to a file, so that nothing here runs while it does.
 * @throws V3mError where it does not exit with 0
 */
export async function capture(options: Omit<LaunchOptions, "stdio">): Promise<Captured> {
  const directory = mkdtempSync(join(tmpdir(), "v3m-capture-"));
  const path = join(directory, "stdout");
  const descriptors = [openSync("/dev/null", "r"), openSync(path, "w")] as const;
  try {
    await using launched = await Launched.prepare({ ...options, stdio: [...descriptors, 2] });
    launched.start();
    const outcome = await launched.wait();
    const stdout = readFileSync(path, "latin1");
    if (outcome.kind === "exit" && outcome.status === 0 && !outcome.timedOut) return { outcome, stdout };
    const how = outcome.kind === "exit" ? `exit status ${outcome.status}` : outcome.kind;
    throw (
      failureOf(outcome) ??
      new V3mError("E_GUEST", `the program ended with ${how} on the lightweight kernel`, {
        hint: `it had printed: ${JSON.stringify(stdout.slice(-300))}`,
      })
    );
  } finally {
    for (const fd of descriptors) closeSync(fd);
    rmSync(directory, { recursive: true, force: true });
  }
}
