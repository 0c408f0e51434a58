// SPDX-License-Identifier: Apache-2.0
/** `v2m list` and `v2m status`: what there is, and how it is. Loads nothing that it can do without. */
import { didYouMean } from "../v3m/did-you-mean.js";
import { VM_STATES } from "../v3m/states.js";
import type { VmInfo } from "../v3m/v3m.js";
import { Exit, exitCodeOf } from "./exit-codes.js";
import { type FrontFlags, openFront } from "./front.js";
import { complain, formatTime, say, sayJson, sayTable, write } from "./output.js";
import { table } from "./report.js";
import { formatBytes, UsageError } from "./values.js";

export interface ListFlags extends FrontFlags {
  readonly state?: readonly string[];
  readonly names?: boolean;
}

const HEADING = ["NAME", "TYPE", "STATE", "CPUS", "MEMORY", "PID", "SINCE", "DETAIL"];

function row(info: VmInfo): string[] {
  const { name, type, state, cpus, memory, pid, since, detail } = info;
  const process = pid === undefined ? "" : String(pid);
  return [name, type, state, String(cpus), formatBytes(memory), process, formatTime(since), detail ?? ""];
}

function checkStates(states: readonly string[]): void {
  for (const state of states) {
    if (!(VM_STATES as readonly string[]).includes(state)) {
      const meant = didYouMean(state, VM_STATES);
      const hint = meant === undefined ? `one of ${VM_STATES.join(", ")}` : `did you mean ${meant}?`;
      throw new UsageError(`--state ${state}: no such state`, hint);
    }
  }
}

export async function list(words: readonly string[], flags: ListFlags): Promise<number> {
  const wanted = flags.state ?? [];
  checkStates(wanted);
  const v3m = openFront(flags);
  let code: number = Exit.OK;
  const infos = await v3m.list(words.length === 0 ? undefined : v3m.select(words), (error) => {
    complain(error, flags.json === true);
    code = exitCodeOf(error);
  });
  const found = wanted.length === 0 ? infos : infos.filter((info) => wanted.includes(info.state));
  if (flags.json === true) sayJson(found);
  else if (flags.names === true) write(found.map((info) => `${info.name}\n`).join(""));
  else sayTable(HEADING, found.map(row), "no VMs; v2m define FILE makes one known");
  return code;
}

function describe(info: VmInfo): string {
  const { name, type, state, detail, pid, since, uuid, cpus, memory } = info;
  return table([
    ["name", name],
    ["type", type],
    ["state", detail === undefined ? state : `${state}: ${detail}`],
    ["since", formatTime(since)],
    ...(pid === undefined ? [] : [["process", ` ${pid}`.trim()]]),
    ["vCPUs", String(cpus)],
    ["memory", formatBytes(memory)],
    ["uuid", uuid],
  ]);
}

export async function status(words: readonly string[], flags: FrontFlags): Promise<number> {
  const v3m = openFront(flags);
  const infos: VmInfo[] = [];
  for (const name of v3m.select(words)) infos.push(await v3m.status(name));
  if (flags.json === true) sayJson(infos);
  else say(infos.map(describe).join("\n\n"));
  return Exit.OK;
}
