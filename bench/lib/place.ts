// SPDX-License-Identifier: Apache-2.0
/** Running a benchmark where it has to run: here, or the same command line inside the nested machine. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { type Environment, environment } from "../../src/measure/environment.js";
import { diagnose } from "../../src/v2m/doctor.js";
import type { BenchOptions } from "./options.js";
import type { Results } from "./results.js";

/** Given to a program that `runNested` runs: measure here, write the JSON, leave the rest to the caller. */
export const INSIDE = "inside";

/**
 * Run this same program inside the nested machine, with the results directory shared.
 * @param memoryMiB of the nested machine; default: its own
 * @returns its exit code
 */
export function runNested(
  results: string,
  args: readonly string[],
  timeoutSeconds: number,
  memoryMiB?: number,
): Promise<number> {
  const testbed = join(packageRoot(), "dist/harness/main.js");
  const command = [process.execPath, process.argv[1] ?? "", ...args, `--${INSIDE}`, "--results", results];
  const memory = memoryMiB === undefined ? [] : ["--memory", `${memoryMiB}M`];
  const child = spawn(
    process.execPath,
    [
      testbed,
      "--no-stdin",
      "--timeout",
      String(timeoutSeconds),
      ...memory,
      "--out",
      results,
      "--",
      ...command,
    ],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}

export interface GuestBenchmark<R> {
  readonly say: (text: string) => void;
  /** Fetch and build what there is no network for inside the nested machine. */
  readonly prepare: () => Promise<unknown>;
  readonly measure: () => Promise<R>;
  readonly show: (result: R) => void | Promise<void>;
  /** Of a round in the nested machine, at most. */
  readonly secondsPerRound: number;
  /** Beside the rounds, where that is more than a few minutes. */
  readonly secondsOnce?: number;
  /** Of the nested machine, where that is more than usual. */
  readonly memoryMiB?: number;
}

/** A benchmark whose guests need hardware virtualization: on this host's KVM, else in the nested machine. */
export async function runGuestBenchmark<R extends { readonly host: Environment | null }>(
  options: BenchOptions,
  results: Results,
  benchmark: GuestBenchmark<R>,
): Promise<void> {
  const { say, measure, show } = benchmark;
  const { place, advice } = diagnose();
  if (place === "nowhere") {
    say(`guests cannot run here yet: ${advice}`);
    process.exit(4);
  }
  if (options.flags.has(INSIDE)) {
    results.writeJson(await measure());
    return;
  }
  if (place === "direct") {
    await show(await measure());
    return;
  }
  await benchmark.prepare();
  say("in the nested machine: times are an emulator's, ratios and counts are what counts");
  const limit = 300 + (benchmark.secondsOnce ?? 0) + benchmark.secondsPerRound * (options.rounds + 2);
  const code = await runNested(results.directory, options.args, limit, benchmark.memoryMiB);
  if (code !== 0) process.exit(code);
  await show({ ...results.readJson<R>(), host: environment() });
}
