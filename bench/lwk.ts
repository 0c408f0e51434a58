// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:lwk`: the lightweight kernel beside a Linux guest of the same size on the same VMM, in one run: time
 * and exits until an application runs, how fast it computes, and exits while it does. On this host's KVM where Linux
 * guests run on it, else inside the nested machine. See docs/benchmarks.md.
 */

import { environment } from "../src/measure/environment.js";
import { touchMemory } from "./boot/measure.js";
import { readOptions } from "./lib/options.js";
import { INSIDE, runGuestBenchmark } from "./lib/place.js";
import { Results } from "./lib/results.js";
import { COMMAND_LINE, MEMORY_MIB, prepareLinux } from "./lwk/guests.js";
import * as measure from "./lwk/measure.js";
import { describe, type LwkResult, picture } from "./lwk/result.js";

const USAGE = `usage: npm run bench:lwk -- [--rounds N | --quick] [--results DIR]
  --rounds N     alternated rounds, after one that warms up (default 7)
  --quick        3 rounds, less work in each
  --results DIR  where bench-lwk.json and bench-lwk.svg go (default: results)
`;
/** Of a whole run in the nested machine. */
const SECONDS_PER_ROUND = 300;
const QUIET_CPUS = [1, 2];

const options = readOptions(USAGE, [INSIDE]);
const results = new Results(options.results, "lwk");
const say = (text: string) => process.stderr.write(`[bench:lwk] ${text}\n`);
const seconds = (ns: number) => `${(ns / 1e9).toFixed(3)} s`;
/**
 * Turns, MiB of the memory stream, repeats of which the quickest counts. A piece of work is a few milliseconds: with
 * many of them some are not disturbed by what else the computer does.
 */
const work = ["4", "24", options.quick ? "20" : "60"];
const quietSeconds = options.quick ? 3 : 10;

async function measureHere(): Promise<LwkResult> {
  const files = await prepareLinux();
  if (process.env.V3M_TESTBED !== undefined) touchMemory();
  const boot = { lwk: [] as Awaited<ReturnType<typeof measure.bootLwk>>[], linux: [] as measure.Boot[] };
  const compute = { lwk: [] as measure.Compute[], linux: [] as measure.Compute[] };
  const quiet = { lwk: [] as measure.Quiet[], linux: [] as measure.Quiet[] };
  const parts = {
    lwk: async (kept: boolean) => {
      const started = await measure.bootLwk();
      const computed = await measure.computeLwk(work);
      say(
        `LWK: application after ${seconds(started.ns)}, ${started.exits} exits; ${JSON.stringify(computed)}`,
      );
      if (kept) {
        boot.lwk.push(started);
        compute.lwk.push(computed);
      }
    },
    linux: async (kept: boolean) => {
      const started = await measure.bootLinux(files);
      const computed = await measure.computeLinux(files, work);
      say(
        `Linux: user space after ${seconds(started.ns)}, ${started.exits} exits; ${JSON.stringify(computed)}`,
      );
      if (kept) {
        boot.linux.push(started);
        compute.linux.push(computed);
      }
    },
  };
  for (let round = 0; round <= options.rounds; round++) {
    say(round === 0 ? "warm-up" : `round ${round}/${options.rounds}`);
    for (const part of round % 2 === 0 ? (["lwk", "linux"] as const) : (["linux", "lwk"] as const)) {
      await parts[part](round > 0);
    }
  }
  for (const cpus of QUIET_CPUS) {
    quiet.lwk.push(await measure.quietLwk(quietSeconds, cpus));
    quiet.linux.push(await measure.quietLinux(files, quietSeconds, cpus));
    say(`${cpus} vCPUs computing: ${JSON.stringify([quiet.lwk.at(-1), quiet.linux.at(-1)])}`);
  }
  return {
    schema: "v3m-bench-lwk/1",
    machine: environment(),
    host: null,
    rounds: options.rounds,
    memoryMiB: MEMORY_MIB,
    commandLine: COMMAND_LINE,
    linuxVersion: files.version,
    boot,
    compute,
    quiet,
    instructions: await measure.instructions(),
  };
}

function show(result: LwkResult): void {
  results.writeJson(result);
  results.writeSvg(picture(result));
  process.stdout.write(`\n${describe(result)}\n\n${results.path("json")}\n${results.path("svg")}\n`);
}

await runGuestBenchmark(options, results, {
  say,
  prepare: prepareLinux,
  measure: measureHere,
  show,
  secondsPerRound: SECONDS_PER_ROUND,
});
