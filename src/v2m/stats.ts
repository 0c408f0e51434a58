// SPDX-License-Identifier: Apache-2.0
/** `v2m stats`: what running VMs use, once or again and again like top(1). */
import { setTimeout as sleep } from "node:timers/promises";
import { V3mError } from "../errors.js";
import { defaultParallelism, mapBounded } from "../v3m/bounded.js";
import type { V3m, VmInfo } from "../v3m/v3m.js";
import type { VmStats } from "../vmm/backend.js";
import { Exit } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { say, sayJson, sayJsonLine, sayTable, write } from "./output.js";
import { errorJson, table } from "./report.js";
import { formatBytes, formatNs, parseCount, parseDuration } from "./values.js";

export interface StatsFlags extends FrontFlags {
  readonly watch?: string | boolean;
  readonly count?: string;
  readonly all?: boolean;
}

interface Sample {
  readonly info: VmInfo;
  /** Nanoseconds of the host's monotonic clock. */
  readonly at: bigint;
  readonly stats: VmStats | undefined;
  readonly error: unknown;
}

type Previous = ReadonlyMap<string, Sample>;

async function sample(v3m: V3m, words: readonly string[]): Promise<Sample[]> {
  const infos = await v3m.list(words.length === 0 ? undefined : v3m.select(words));
  const live = infos.filter((info) => info.state === "running" || info.state === "paused");
  const results = await mapBounded(live, defaultParallelism(), async (info) => await v3m.stats(info.name));
  return live.map((info, i) => {
    const result = results[i];
    const at = process.hrtime.bigint();
    return result !== undefined && "value" in result
      ? { info, at, stats: result.value, error: undefined }
      : { info, at, stats: undefined, error: result?.error };
  });
}

/** Share of one CPU since the last sample, in percent. */
function load(now: Sample, before: Sample | undefined): string {
  const [used, earlier] = [now.stats?.cpu_ns, before?.stats?.cpu_ns];
  if (used === undefined || earlier === undefined || before === undefined) return "";
  const share = (100 * (Number(used) - Number(earlier))) / Number(now.at - before.at);
  return Math.max(0, share).toFixed(1);
}

const HEADING = [
  "NAME",
  "STATE",
  "%CPU",
  "CPU TIME",
  "RESIDENT",
  "PRIVATE",
  "EXITS",
  "DISK R",
  "DISK W",
  "NET IN",
  "NET OUT",
];

function row(now: Sample, before: Sample | undefined): string[] {
  const { info, stats = {}, error } = now;
  if (error !== undefined) return [info.name, error instanceof V3mError ? error.code : "error"];
  const bytes = (key: string) => (stats[key] === undefined ? "" : formatBytes(stats[key]));
  const cpu = stats.cpu_ns === undefined ? "" : formatNs(Number(stats.cpu_ns));
  return [
    info.name,
    info.state,
    load(now, before),
    cpu,
    bytes("resident_bytes"),
    bytes("private_bytes"),
    stats.exits === undefined ? "" : String(stats.exits),
    bytes("disk_read_bytes"),
    bytes("disk_written_bytes"),
    bytes("net_received_bytes"),
    bytes("net_sent_bytes"),
  ];
}

/** Columns that are empty everywhere are left out. */
function used(rows: readonly (readonly string[])[]): { heading: string[]; rows: string[][] } {
  const keep = HEADING.map((_, i) => i < 2 || rows.some((cells) => (cells[i] ?? "") !== ""));
  const pick = (cells: readonly string[]) => cells.filter((_, i) => keep[i]);
  return { heading: pick(HEADING), rows: rows.map(pick) };
}

function forJson(samples: readonly Sample[]): object[] {
  return samples.map(({ info, stats, error }) => ({
    name: info.name,
    state: info.state,
    ...(error === undefined ? { stats } : { error: errorJson(error) }),
  }));
}

/** All counters of one VM. */
function everything(samples: readonly Sample[]): string {
  return samples
    .map(({ info, stats = {}, error }) => {
      if (error !== undefined) return `${info.name}\n  ${error instanceof Error ? error.message : error}`;
      const rows = Object.entries(stats).map(([key, value]) => [key, String(value)]);
      return `${info.name}\n${table(rows, "  ")}`;
    })
    .join("\n\n");
}

/** @param lines of the screen; the VMs that use most stay on it */
function show(samples: readonly Sample[], before: Previous, flags: StatsFlags, lines?: number): void {
  if (flags.json === true) {
    if (flags.watch === undefined) sayJson(forJson(samples));
    else sayJsonLine({ time: new Date(), vms: forJson(samples) });
    return;
  }
  if (flags.all === true && samples.length > 0) {
    say(everything(samples));
    return;
  }
  const { heading, rows } = used(samples.map((one) => row(one, before.get(one.info.name))));
  const room = lines === undefined ? rows.length : Math.max(1, lines - 3);
  const byLoad = (cells: readonly string[]) => -Number(cells[heading.indexOf("%CPU")] ?? 0);
  const shown = rows.length > room ? rows.toSorted((a, b) => byLoad(a) - byLoad(b)).slice(0, room) : rows;
  sayTable(heading, shown, "no VM runs");
  if (shown.length < rows.length) say(`and ${rows.length - shown.length} more`);
}

const HOME_AND_CLEAR = "\x1b[H\x1b[J";

export async function stats(words: readonly string[], flags: StatsFlags): Promise<number> {
  const v3m = openFront(flags);
  const rounds = flags.count === undefined ? undefined : parseCount(flags.count, "--count", 1);
  if (flags.watch === undefined) {
    show(await sample(v3m, words), new Map(), flags);
    return Exit.OK;
  }
  const interval = flags.watch === true ? 2000 : parseDuration(String(flags.watch), "--watch");
  using interrupt = new Interrupt();
  const screen = process.stdout.isTTY === true && flags.json !== true;
  let before: Previous = new Map();
  for (let round = 0; !interrupt.signal.aborted && round !== rounds; round++) {
    const samples = await sample(v3m, words);
    if (screen) write(HOME_AND_CLEAR);
    show(samples, before, flags, screen ? process.stdout.rows : undefined);
    before = new Map(samples.map((one) => [one.info.name, one]));
    if (round + 1 !== rounds) await sleep(interval, undefined, { signal: interrupt.signal }).catch(() => {});
  }
  return Exit.OK;
}
