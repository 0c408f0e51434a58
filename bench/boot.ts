// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:boot`: how long and with how many exits V3M and Debian's QEMU boot the same Linux guest, in one
 * run. On this host's KVM where Linux guests run on it, else inside the nested machine. See docs/benchmarks.md.
 */
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { environment } from "../src/measure/environment.js";
import { rotated } from "../src/measure/statistics.js";
import { commandLine, contenders } from "./boot/contenders.js";
import { ADDED_PARAMETERS, fileHash, inMemory, prepareGuest } from "./boot/guest.js";
import { measure, type Run, touchMemory } from "./boot/measure.js";
import { type BootResult, type ContenderResult, describe, picture, verdicts } from "./boot/result.js";
import { describeTraces, readTrace, startTracing, stopTracing, tracingAvailable } from "./boot/trace.js";
import { readOptions } from "./lib/options.js";
import { INSIDE, runGuestBenchmark } from "./lib/place.js";
import { Results } from "./lib/results.js";

const USAGE = `usage: npm run bench:boot -- [--rounds N | --quick] [--trace] [--results DIR]
  --rounds N     alternated rounds, after one that warms up (default 7)
  --quick        3 rounds
  --trace        afterwards, count the reasons of exits under tracefs (root)
  --results DIR  where bench-boot.json and bench-boot.svg go (default: results)
`;
const MEMORY_MIB = 128;
const BOOT_TIMEOUT_MS = 180_000;
/** Of a whole run in the nested machine: a minute a boot, and then some. */
const SECONDS_PER_ROUND = 400;

const options = readOptions(USAGE, ["trace", INSIDE]);
const results = new Results(options.results, "boot");
const say = (text: string) => process.stderr.write(`[bench:boot] ${text}\n`);

/** Alternated rounds of all contenders on this machine's KVM. */
async function measureHere(): Promise<BootResult> {
  const prepared = await prepareGuest();
  const guest = await inMemory(prepared);
  try {
    const list = contenders(guest, { memoryMiB: MEMORY_MIB });
    const measuring = { ramBytes: MEMORY_MIB * 2 ** 20, timeoutMs: BOOT_TIMEOUT_MS };
    const runs = new Map<string, Run[]>(list.map(({ id }) => [id, []]));
    if (process.env.V3M_TESTBED !== undefined) touchMemory();
    for (let round = 0; round <= options.rounds; round++) {
      for (const contender of rotated(list, round)) {
        const run = await measure(contender, measuring);
        const exits = run.exits === null ? "" : `, ${run.exits.guest} guest-caused exits`;
        const name = round === 0 ? "warm-up" : `round ${round}/${options.rounds}`;
        say(`${name}: ${contender.label}: ${run.seconds.toFixed(2)} s${exits}`);
        if (round > 0) runs.get(contender.id)?.push(run);
      }
    }
    const measured: ContenderResult[] = list.map((c) => ({ ...c, runs: runs.get(c.id) ?? [] }));
    const result: BootResult = {
      schema: "v3m-bench-boot/1",
      machine: environment(),
      host: null,
      rounds: options.rounds,
      memoryMiB: MEMORY_MIB,
      commandLine: commandLine(),
      addedParameters: ADDED_PARAMETERS,
      kernel: { version: guest.version, sha256: await fileHash(guest.bzImage) },
      initramfs: { sha256: await fileHash(guest.initramfs) },
      contenders: measured,
    };
    return options.flags.has("trace") ? await withTraces(result) : result;
  } finally {
    rmSync(dirname(guest.vmlinux), { recursive: true, force: true });
  }
}

/** One boot each of V3M and of the fastest peer under tracefs. */
async function withTraces(result: BootResult): Promise<BootResult> {
  if (!tracingAvailable()) {
    say("no tracefs here (root, mount -t tracefs tracefs /sys/kernel/tracing): no trace");
    return result;
  }
  const peer = verdicts(result)[0]?.peer;
  const traced: ContenderResult[] = [];
  for (const contender of result.contenders) {
    if (contender.kind !== "library" && contender.label !== peer) {
      traced.push(contender);
      continue;
    }
    say(`tracing ${contender.label}`);
    startTracing();
    try {
      const ramBytes = MEMORY_MIB * 2 ** 20;
      await measure(contender, { ramBytes, timeoutMs: BOOT_TIMEOUT_MS });
    } finally {
      stopTracing();
    }
    traced.push({ ...contender, trace: readTrace() });
  }
  return { ...result, contenders: traced };
}

function show(result: BootResult): void {
  results.writeJson(result);
  results.writeSvg(picture(result));
  process.stdout.write(`\n${describe(result)}\n`);
  const traces = result.contenders.flatMap((c) =>
    c.trace === undefined ? [] : [{ label: c.label, histogram: c.trace }],
  );
  if (traces.length > 0) process.stdout.write(`\n${describeTraces(traces)}\n`);
  process.stdout.write(`\n${results.path("json")}\n${results.path("svg")}\n`);
}

await runGuestBenchmark(options, results, {
  say,
  prepare: prepareGuest,
  measure: measureHere,
  show,
  secondsPerRound: SECONDS_PER_ROUND,
});
