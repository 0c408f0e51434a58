// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:snapshot`: how long it takes to restore a Linux guest at work, from the request to its next word on the
 * console, with VMM-HPC and with QEMU under KVM, each with little and with much RAM; with VMM-HPC what it costs by what the
 * guest touches, and what clones of a guest have of memory to themselves. On this host's KVM where Linux guests
 * run on it, else inside the nested machine. See docs/benchmarks.md.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guestInitramfs } from "../harness/initramfs.js";
import { ensureKernel } from "../harness/kernels.js";
import { type Environment, environment } from "../src/measure/environment.js";
import { rotated, short, summarize } from "../src/measure/statistics.js";
import { builtinRegistry } from "../src/v3m/builtin.js";
import { definitionFrom, resolveSource } from "../src/v3m/definition/load.js";
import type { VmDefinition } from "../src/v3m/definition/types.js";
import type { V3mBackend } from "../src/v3m/registry.js";
import { readOptions } from "./lib/options.js";
import { INSIDE, runGuestBenchmark } from "./lib/place.js";
import { Results } from "./lib/results.js";
import { table } from "./lib/table.js";
import { said } from "./snapshot/console.js";
import { describeForks, type Forks, measureForks } from "./snapshot/forks.js";
import { describeSeries, measureSeries, type SeriesRow } from "./snapshot/series.js";

const USAGE = `usage: npm run bench:snapshot -- [--rounds N | --quick] [--forks] [--results DIR]
  --rounds N     alternated rounds, after one that warms up (default 7)
  --quick        3 rounds
  --forks        50 clones instead of 8
  --results DIR  where bench-snapshot.json goes (default: results)
`;
/** Most of a large guest's RAM is never touched: what is restored is the same as in the small one. */
const MEMORY = ["256M", "1G"] as const;
const TYPES = ["VMM-HPC", "Kvm"] as const;
const TICKING = "while :; do echo tick; usleep 10000; done\n";
const SECONDS_PER_ROUND = 240;
const FORKS = "forks";
const CLONES = 8;
const MANY_CLONES = 50;
const SECONDS_PER_CLONE = 30;
/** Restoring takes at most this part of QEMU's time, with the larger RAM. */
const GOAL = 0.25;

interface Row {
  readonly type: string;
  readonly memory: string;
  /** Seconds. */
  readonly save: number;
  readonly restore: number[];
}

interface SnapshotResult {
  readonly schema: "v3m-bench-snapshot/3";
  readonly machine: Environment;
  readonly host: Environment | null;
  readonly rounds: number;
  readonly rows: readonly Row[];
  readonly series: readonly SeriesRow[];
  readonly forks: Forks;
}

const options = readOptions(USAGE, [INSIDE, FORKS]);
const clones = options.flags.has(FORKS) ? MANY_CLONES : CLONES;
const results = new Results(options.results, "snapshot");
const say = (text: string) => process.stderr.write(`[bench:snapshot] ${text}\n`);
const seconds = (since: bigint) => Number(process.hrtime.bigint() - since) / 1e9;

async function prepare() {
  const kernel = await ensureKernel("cloud");
  const initrd = await guestInitramfs({});
  const networked = await guestInitramfs({ modules: ["virtio_net"], kernel });
  return { kernel: kernel.bzImage, initrd, networked };
}

/** A guest at work, saved. @returns how long that took */
async function keep(backend: V3mBackend, name: string, directory: string): Promise<number> {
  await backend.start(name);
  const console = await backend.console(name);
  await said(console, "/ # ");
  const ticking = said(console, "tick\r\ntick");
  console.write(TICKING);
  await ticking;
  await backend.pause(name);
  const begin = process.hrtime.bigint();
  await backend.snapshot(name, directory);
  const taken = seconds(begin);
  await backend.stop(name, { force: true });
  console.destroy();
  return taken;
}

async function restore(backend: V3mBackend, name: string, directory: string): Promise<number> {
  const begin = process.hrtime.bigint();
  await backend.restore(name, directory);
  const console = await backend.console(name);
  await said(console, "tick");
  const taken = seconds(begin);
  await backend.stop(name, { force: true });
  console.destroy();
  return taken;
}

async function measureHere(): Promise<SnapshotResult> {
  const { networked, ...boot } = await prepare();
  const machine = { ...boot, cmdline: "console=ttyS0 quiet" };
  const work = mkdtempSync(join(tmpdir(), "v3m-bench-snapshot-"));
  const definitions = new Map<string, VmDefinition>();
  const registry = builtinRegistry();
  for (const name of ["state", "run"]) mkdirSync(join(work, name));
  const host = {
    definition: async (name: string) => definitions.get(name) as VmDefinition,
    stateDirectory: (name: string) => join(work, "state", name),
    runtimeDirectory: (name: string) => join(work, "run", name),
  };
  try {
    const contenders: { row: Row; backend: V3mBackend; name: string; directory: string }[] = [];
    for (const type of TYPES) {
      const backend = await registry.get(type, host);
      for (const memory of MEMORY) {
        const name = `${type}-${memory}`.toLowerCase();
        const source = definitionFrom({
          name,
          type,
          memory,
          boot: { ...boot, cmdline: "console=ttyS0 quiet" },
        });
        const definition = resolveSource(source);
        definitions.set(name, definition);
        await backend.define(definition);
        const directory = join(work, `snapshot-${name}`);
        const save = await keep(backend, name, directory);
        say(`${type}, ${memory}: saved in ${short(save)} s`);
        contenders.push({ row: { type, memory, save, restore: [] }, backend, name, directory });
      }
    }
    for (let round = 0; round <= options.rounds; round++) {
      for (const { row, backend, name, directory } of rotated(contenders, round)) {
        const taken = await restore(backend, name, directory);
        const which = round === 0 ? "warm-up" : `round ${round}/${options.rounds}`;
        say(`${which}: ${row.type}, ${row.memory}: ${short(taken)} s`);
        if (round > 0) row.restore.push(taken);
      }
    }
    const series = await measureSeries(machine, work, options.rounds, say);
    const forks = await measureForks({ ...machine, initrd: networked }, clones, say);
    return {
      schema: "v3m-bench-snapshot/3",
      machine: environment(),
      host: null,
      rounds: options.rounds,
      rows: contenders.map(({ row }) => row),
      series,
      forks,
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function describe({ rows, series, forks }: SnapshotResult): string {
  const restored = (type: string) =>
    summarize(rows.find((row) => row.type === type && row.memory === "1G")?.restore ?? []).median;
  const ratio = restored("VMM-HPC") / restored("Kvm");
  const lines = rows.map(({ type, memory, save, restore: times }) => {
    const { median, min, max } = summarize(times);
    return [`${type}, ${memory}`, short(save), short(median), `${short(min)} to ${short(max)}`];
  });
  return [
    table(["seconds", "save", "restore to the next word", "range"], lines),
    "",
    `restore of 1 GiB: ${short(ratio)} of QEMU's time (goal: at most ${GOAL})`,
    "",
    describeSeries(series),
    "",
    describeForks(forks),
  ].join("\n");
}

await runGuestBenchmark(options, results, {
  say,
  prepare,
  measure: measureHere,
  show: (result: SnapshotResult) => {
    results.writeJson(result);
    process.stdout.write(`\n${describe(result)}\n\n${results.path("json")}\n`);
  },
  secondsPerRound: SECONDS_PER_ROUND,
  secondsOnce: clones * SECONDS_PER_CLONE,
  memoryMiB: 4096,
});
