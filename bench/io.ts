// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:io`: fio on a virtio disk, iperf3 and sockperf over a virtio network card, in the same Linux guest
 * under V3M and under Debian's QEMU with the same back ends (io_uring; tap without vhost), alternated in one
 * run; guest-caused exits for each operation beside them. On this host's KVM where Linux guests run on it, else inside
 * the nested machine. See docs/benchmarks.md.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { environment } from "../src/measure/environment.js";
import { rotated } from "../src/measure/statistics.js";
import { touchMemory } from "./boot/measure.js";
import { type Contender, contenders, MEMORY_MIB, prepareFiles } from "./io/contenders.js";
import { HostNetwork, measure, type Round, tests } from "./io/measure.js";
import { describe, type IoResult, picture } from "./io/result.js";
import { readOptions } from "./lib/options.js";
import { INSIDE, runGuestBenchmark } from "./lib/place.js";
import { Results } from "./lib/results.js";

const USAGE = `usage: npm run bench:io -- [--rounds N | --quick] [--results DIR]
  --rounds N     alternated rounds, after one that warms up (default 7)
  --quick        3 rounds, less work in each
  --results DIR  where bench-io.json and bench-io.svg go (default: results)
`;
/** Of a whole run in the nested machine. */
const SECONDS_PER_ROUND = 400;
const SCRATCH_BYTES = 256 << 20;

const options = readOptions(USAGE, [INSIDE]);
const results = new Results(options.results, "io");
const say = (text: string) => process.stderr.write(`[bench:io] ${text}\n`);

/** The second disk: all of it written once, so that no contender allocates blocks. */
async function scratchDisk(directory: string): Promise<string> {
  const path = join(directory, "scratch.img");
  const file = await open(path, "wx");
  try {
    const chunk = Buffer.alloc(1 << 20, 0x5a);
    for (let at = 0; at < SCRATCH_BYTES; at += chunk.length) await file.write(chunk, 0, chunk.length, at);
    await file.sync();
  } finally {
    await file.close();
  }
  return path;
}

async function measureHere(): Promise<IoResult> {
  const files = await prepareFiles(say);
  const nested = process.env.V3M_TESTBED !== undefined;
  if (nested) touchMemory();
  // The nested machine's files are in memory (tmpfs), which has no O_DIRECT before Linux 6.6.
  const directory = mkdtempSync(join(nested ? "/dev/shm" : process.cwd(), "v3m-bench-io-"));
  const kept: Record<Contender["id"], Round[]> = { v3m: [], qemu: [] };
  try {
    const scratch = { path: await scratchDisk(directory), direct: !nested };
    using _network = new HostNetwork();
    const list = tests(options.quick);
    for (let round = 0; round <= options.rounds; round++) {
      say(round === 0 ? "warm-up" : `round ${round}/${options.rounds}`);
      for (const contender of rotated(contenders, round)) {
        const figures = await measure(contender, files, scratch, list, say);
        if (round > 0) kept[contender.id].push(figures);
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return {
    schema: "v3m-bench-io/1",
    machine: environment(),
    host: null,
    rounds: options.rounds,
    memoryMiB: MEMORY_MIB,
    linuxVersion: files.version,
    ...kept,
  };
}

function show(result: IoResult): void {
  results.writeJson(result);
  results.writeSvg(picture(result));
  process.stdout.write(`\n${describe(result)}\n\n${results.path("json")}\n${results.path("svg")}\n`);
}

await runGuestBenchmark(options, results, {
  say,
  prepare: () => prepareFiles(say),
  measure: measureHere,
  show,
  secondsPerRound: SECONDS_PER_ROUND,
});
