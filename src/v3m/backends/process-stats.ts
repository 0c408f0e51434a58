// SPDX-License-Identifier: Apache-2.0
/** What the host's kernel counts of a machine: its process and its taps. */
import { readFile } from "node:fs/promises";
import type { VmStats } from "../../vmm/backend.js";
import type { VmDefinition } from "../definition/types.js";
import { tapCounters } from "../network/counters.js";

const PAGE = 4096;
/** Clock ticks of /proc a second: fixed in Linux's interface. */
const TICK_NS = 1_000_000_000n / 100n;

/** Fields of /proc/…/stat, counted from the third, which is the first behind the name. */
export async function statFields(path: string): Promise<string[]> {
  const text = await readFile(path, "latin1").catch(() => "");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

/** User and system time of such fields. */
export function cpuTime(fields: readonly string[]): bigint {
  const ticks = (index: number) => BigInt(fields[index] ?? 0);
  return (ticks(11) + ticks(12)) * TICK_NS; // utime, stime
}

/** CPU time, age and memory of the process that runs a machine. */
export async function processStats(pid: number): Promise<VmStats> {
  const fields = await statFields(`/proc/${pid}/stat`);
  const memory = await readFile(`/proc/${pid}/smaps_rollup`, "latin1").catch(() => "");
  // Of a process in a jail only root reads that; its size is everybody's.
  const statm = (await readFile(`/proc/${pid}/statm`, "latin1").catch(() => "")).split(" ");
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(memory)?.[1] ?? 0);
  // Huge pages that were reserved are not in Rss.
  const huge = kib("Shared_Hugetlb") + kib("Private_Hugetlb");
  const uptime = Number((await readFile("/proc/uptime", "latin1")).split(" ")[0]);
  const started = Number(fields[19] ?? 0) / 100;
  return {
    cpu_ns: cpuTime(fields),
    uptime_ns: BigInt(Math.max(0, Math.round((uptime - started) * 1e9))),
    resident_bytes: memory === "" ? Number(statm[1] ?? 0) * PAGE : (kib("Rss") + huge) * 1024,
    ...(memory === "" ? {} : { private_bytes: (kib("Private_Clean") + kib("Private_Dirty") + huge) * 1024 }),
  };
}

/** What went through the taps of a machine. */
export async function nicStats(definition: VmDefinition): Promise<VmStats> {
  const result: Record<string, number> = {};
  let [received, sent] = [0, 0];
  for (const nic of definition.nics) {
    const counters = nic.type === "user" ? undefined : await tapCounters(nic.tap);
    if (counters === undefined) continue;
    result[`${nic.id}_received_bytes`] = counters.receivedBytes;
    result[`${nic.id}_sent_bytes`] = counters.sentBytes;
    received += counters.receivedBytes;
    sent += counters.sentBytes;
  }
  return { ...result, net_received_bytes: received, net_sent_bytes: sent };
}
