// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:footprint`: what a virtual machine costs beside its guest's RAM, and how fast it starts: V3M's jailed
 * monitor and Debian's QEMU, in one run. On this host's KVM where Linux guests run on it, else inside the nested
 * machine; payload guests on any usable /dev/kvm. See docs/benchmarks.md.
 */
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { environment } from "../src/measure/environment.js";
import { rotated } from "../src/measure/statistics.js";
import { hostFacts } from "../src/vmm/host.js";
import { commandLine } from "./boot/contenders.js";
import { inMemory, prepareGuest } from "./boot/guest.js";
import { touchMemory } from "./boot/measure.js";
import { type Contender, PEERS, V3M } from "./footprint/contenders.js";
import { LINUX_MIB, LWK_MIB, linuxGuest, Workshop } from "./footprint/guests.js";
import * as measure from "./footprint/measure.js";
import { describe, type FootprintResult, type Payload, picture } from "./footprint/result.js";
import type { Use } from "./footprint/running.js";
import { readOptions } from "./lib/options.js";
import { INSIDE, runGuestBenchmark } from "./lib/place.js";
import { Results } from "./lib/results.js";

const USAGE = `usage: npm run bench:footprint -- [--rounds N | --quick] [--results DIR]
  --rounds N     alternated starts, after one that warms up (default 7)
  --quick        3 starts, 1 Linux guest each
  --results DIR  where bench-footprint.json and bench-footprint.svg go (default: results)
`;
const LINUX_ROUNDS = 3;
const MANY = 50;
const CROWD = 200;
/** 50 times QEMU with its guest, and 200 times a huge page for each piece of a guest that is used. */
const NESTED_MIB = 6144;
const SECONDS_PER_ROUND = 300;

const options = readOptions(USAGE, [INSIDE]);
const results = new Results(options.results, "footprint");
const say = (text: string) => process.stderr.write(`[bench:footprint] ${text}\n`);
const all: readonly Contender[] = [V3M, ...PEERS];
const kib = (bytes: number) => `${(bytes / 1024).toFixed(0)} KiB`;
const described = (use: Use) =>
  `${kib(use.anonymous)} anonymous, ${kib(use.pss)} PSS, ${use.threads} threads, ${use.descriptors} descriptors`;

/** One value a round for each contender, each of whom comes first in turn. */
async function alternated<T>(rounds: number, warmUp: boolean, run: (contender: Contender) => Promise<T>) {
  const values: Record<string, T[]> = Object.fromEntries(all.map(({ id }) => [id, []]));
  for (let round = warmUp ? 0 : 1; round <= rounds; round++) {
    for (const contender of rotated(all, round)) {
      const value = await run(contender);
      if (round > 0) values[contender.id]?.push(value);
    }
  }
  return values;
}

async function measureHere(): Promise<FootprintResult> {
  const linux = await inMemory(await prepareGuest());
  using workshop = new Workshop();
  try {
    if (process.env.V3M_TESTBED !== undefined) touchMemory();
    const one = await alternated(options.quick ? 1 : LINUX_ROUNDS, false, async (contender) => {
      const use = await measure.one(contender, linuxGuest(linux), workshop);
      say(`a Linux guest, ${contender.label}: ${described(use)}`);
      return use;
    });
    const lwk = workshop.lwkGuest();
    const starts = await alternated(options.rounds, true, async (contender) => {
      const seconds = await measure.start(contender, lwk, workshop);
      say(`start of an LWK guest, ${contender.label}: ${seconds.toFixed(3)} s`);
      return seconds;
    });
    const many: Record<string, measure.Many> = {};
    for (const contender of all) {
      const measured = await measure.many(contender, lwk, MANY, workshop);
      say(
        `${MANY} LWK guests, ${contender.label}: ${measured.seconds.toFixed(1)} s; ${described(measured.each)}`,
      );
      many[contender.id] = measured;
    }
    const crowd = await measure.crowd(CROWD, workshop);
    say(`${CROWD} LWK guests: ${JSON.stringify(crowd)}`);
    return {
      schema: "v3m-bench-footprint/1",
      machine: environment(),
      host: null,
      rounds: options.rounds,
      commandLine: commandLine(),
      linuxVersion: linux.version,
      memoryMiB: { linux: LINUX_MIB, lwk: LWK_MIB },
      contenders: all.map(({ id, label, own }) => ({ id, label, own })),
      one,
      many,
      starts,
      crowd,
      payload: null,
    };
  } finally {
    rmSync(dirname(linux.vmlinux), { recursive: true, force: true });
  }
}

/** Monitors on this host's own KVM, which need not be able to run a kernel. */
async function measurePayload(): Promise<Payload | null> {
  if (hostFacts().kvm_status !== 0 || process.getuid?.() !== 0) return null; // a jailed process is root's to look at
  using workshop = new Workshop();
  const guest = workshop.payloadGuest();
  await measure.one(V3M, guest, workshop);
  const one = await measure.one(V3M, guest, workshop);
  const many = await measure.many(V3M, guest, MANY, workshop);
  const starts: number[] = [];
  for (let round = 0; round < options.rounds; round++) starts.push(await measure.start(V3M, guest, workshop));
  return { machine: environment(), memoryMiB: guest.memoryMiB, one, many, starts };
}

async function show(measured: FootprintResult): Promise<void> {
  const result = { ...measured, payload: await measurePayload() };
  results.writeJson(result);
  results.writeSvg(picture(result));
  process.stdout.write(`\n${describe(result)}\n\n${results.path("json")}\n${results.path("svg")}\n`);
}

await runGuestBenchmark(options, results, {
  say,
  prepare: prepareGuest,
  measure: measureHere,
  show,
  secondsPerRound: SECONDS_PER_ROUND,
  memoryMiB: NESTED_MIB,
});
