// SPDX-License-Identifier: Apache-2.0
/** `v2m snapshot` and `v2m restore`: states of VMs, kept by name and taken up again. */
import { didYouMean } from "../v3m/did-you-mean.js";
import type { SnapshotRecord } from "../v3m/snapshots.js";
import type { V3m } from "../v3m/v3m.js";
import { Exit } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { formatTime, ProgressBar, say, sayJson, sayTable } from "./output.js";
import { table } from "./report.js";
import { formatBytes, UsageError } from "./values.js";

const ACTIONS = ["create", "list", "show", "delete", "verify"] as const;
type Action = (typeof ACTIONS)[number];

const HEADING = ["VM", "SNAPSHOT", "TYPE", "CPUS", "MEMORY", "KEPT", "BASE", "CREATED"];

export interface SnapshotFlags extends FrontFlags {
  readonly base?: string;
  readonly compress?: boolean;
}

/** What the memory takes in the snapshot, and by how much compressing it has helped. */
function keptMemory({ kept }: SnapshotRecord): string {
  if (kept === undefined) return "–";
  const { dataBytes, storedBytes, compressed } = kept;
  const stored = formatBytes(storedBytes);
  return compressed ? `${stored}, ${(dataBytes / storedBytes).toFixed(1)}:1` : stored;
}

function row(record: SnapshotRecord): string[] {
  const { vm, name, type, cpus, memory, base, created } = record;
  const kept = keptMemory(record);
  return [vm, name, type, String(cpus), formatBytes(memory), kept, base ?? "", formatTime(created)];
}

function action(word: string): Action {
  const found = ACTIONS.find((name) => name === word);
  if (found !== undefined) return found;
  const meant = didYouMean(word, ACTIONS);
  const hint = meant === undefined ? `one of ${ACTIONS.join(", ")}` : `did you mean ${meant}?`;
  throw new UsageError(`snapshot ${word}: no such action`, hint);
}

function needed(name: string | undefined, what: string, word: Action): string {
  if (name !== undefined) return name;
  throw new UsageError(`snapshot ${word} needs ${what}`, `v2m snapshot ${word} VM SNAPSHOT`);
}

/** Do `work` with a signal that Ctrl-C aborts, and a progress bar. */
async function watched<T>(
  flags: FrontFlags,
  work: (options: { signal: AbortSignal; onProgress: ProgressBar["show"] }) => Promise<T>,
): Promise<T> {
  using interrupt = new Interrupt();
  using bar = new ProgressBar(flags.json !== true);
  return await work({ signal: interrupt.signal, onProgress: bar.show.bind(bar) });
}

async function create(v3m: V3m, vm: string, name: string | undefined, flags: SnapshotFlags): Promise<void> {
  const how = {
    compress: flags.compress === true,
    ...(flags.base === undefined ? {} : { base: flags.base }),
  };
  const made = await watched(flags, (options) => v3m.createSnapshot(vm, name, { ...options, ...how }));
  if (flags.json === true) sayJson(made);
  else say(`${vm}: snapshot ${made.name}`);
}

async function list(v3m: V3m, words: readonly string[], flags: FrontFlags): Promise<void> {
  const found: SnapshotRecord[] = [];
  for (const vm of words.length === 0 ? v3m.names() : v3m.select(words)) {
    found.push(...(await (await v3m.snapshots(vm)).list()));
  }
  if (flags.json === true) sayJson(found);
  else sayTable(HEADING, found.map(row), "no snapshots; v2m snapshot create VM makes one");
}

async function show(v3m: V3m, vm: string, name: string, flags: FrontFlags): Promise<void> {
  const record = (await v3m.snapshots(vm)).get(name);
  if (flags.json === true) {
    sayJson(record);
    return;
  }
  say(
    table([
      ["snapshot", record.name],
      ["VM", record.vm],
      ["type", record.type],
      ["created", formatTime(record.created)],
      ["vCPUs", String(record.cpus)],
      ["memory", formatBytes(record.memory)],
      ["of it not zero", record.kept === undefined ? "–" : formatBytes(record.kept.dataBytes)],
      ["kept in", keptMemory(record)],
      ["based on", record.base ?? "–"],
      ["directory", record.directory],
    ]),
  );
}

async function verify(v3m: V3m, vm: string, name: string, flags: FrontFlags): Promise<void> {
  await v3m.verifySnapshot(vm, name);
  if (flags.json === true) sayJson({ vm, name, outcome: "undamaged" });
  else say(`${vm}: snapshot ${name} is undamaged`);
}

async function remove(v3m: V3m, vm: string, name: string, flags: FrontFlags): Promise<void> {
  await v3m.removeSnapshot(vm, name);
  if (flags.json === true) sayJson({ vm, name, outcome: "deleted" });
  else say(`${vm}: snapshot ${name} deleted`);
}

/** @returns the exit code */
export async function snapshot(
  word: string,
  vm: string | undefined,
  name: string | undefined,
  flags: SnapshotFlags,
): Promise<number> {
  const what = action(word);
  if (what !== "create") {
    for (const option of ["base", "compress"] as const) {
      if (flags[option] === undefined) continue;
      throw new UsageError(`snapshot ${word} has no --${option}`, "it is for v2m snapshot create");
    }
  }
  const v3m = openFront(flags);
  if (what === "list") {
    await list(
      v3m,
      [vm, name].filter((each) => each !== undefined),
      flags,
    );
    return Exit.OK;
  }
  const one = needed(vm, "a VM", what);
  if (what === "create") {
    await create(v3m, one, name, flags);
    return Exit.OK;
  }
  const work = { show, verify, delete: remove }[what];
  await work(v3m, one, needed(name, "a snapshot", what), flags);
  return Exit.OK;
}

/** @returns the exit code */
export async function restore(vm: string, name: string, flags: FrontFlags): Promise<number> {
  const v3m = openFront(flags);
  await watched(flags, (options) => v3m.restoreSnapshot(vm, name, options));
  if (flags.json === true) sayJson([{ name: vm, outcome: "running" }]);
  else say(`${vm}: running, as in snapshot ${name}`);
  return Exit.OK;
}
