// SPDX-License-Identifier: Apache-2.0
/** Counters of a running machine: from QEMU, from KVM through QEMU, and from the host's kernel about the process. */
import { readFile } from "node:fs/promises";
import type { VmStats } from "../../../vmm/backend.js";
import type { VmDefinition } from "../../definition/types.js";
import { tapCounters } from "../../network/counters.js";
import { diskNode } from "./disks.js";
import type { Qmp, QmpOptions } from "./qmp.js";

interface BlockStats {
  readonly qdev?: string;
  readonly "node-name"?: string;
  readonly stats: Readonly<Record<string, number | boolean | undefined>>;
}

interface StatsResult {
  readonly provider: string;
  readonly stats: readonly { readonly name: string; readonly value: number | readonly number[] | boolean }[];
}

interface Cpu {
  readonly "cpu-index": number;
  readonly "thread-id": number;
}

/** Clock ticks of /proc a second: fixed in Linux's interface. */
const TICK_NS = 1_000_000_000n / 100n;

export async function machineStats(
  qmp: Qmp,
  definition: VmDefinition,
  pid: number,
  options: QmpOptions = {},
): Promise<VmStats> {
  const cpus = await qmp.execute<Cpu[]>("query-cpus-fast", undefined, options);
  return {
    ...(await ofProcess(pid)),
    ...(await ofVcpus(pid, cpus)),
    ...(await ofKvm(qmp, options)),
    ...ofDisks(await qmp.execute<BlockStats[]>("query-blockstats", undefined, options), definition),
    ...(await ofNics(definition)),
    ...(definition.balloon ? await ofBalloon(qmp, options) : {}),
  };
}

/** Fields of /proc/…/stat, counted from the third, which is the first behind the name. */
async function statFields(path: string): Promise<string[]> {
  const text = await readFile(path, "latin1").catch(() => "");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

function cpuTime(fields: readonly string[]): bigint {
  const ticks = (index: number) => BigInt(fields[index] ?? 0);
  return (ticks(11) + ticks(12)) * TICK_NS; // utime, stime
}

async function ofProcess(pid: number): Promise<VmStats> {
  const fields = await statFields(`/proc/${pid}/stat`);
  const memory = await readFile(`/proc/${pid}/smaps_rollup`, "latin1").catch(() => "");
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(memory)?.[1] ?? 0);
  const uptime = Number((await readFile("/proc/uptime", "latin1")).split(" ")[0]);
  const started = Number(fields[19] ?? 0) / 100;
  return {
    cpu_ns: cpuTime(fields),
    uptime_ns: BigInt(Math.max(0, Math.round((uptime - started) * 1e9))),
    resident_bytes: kib("Rss") * 1024,
    private_bytes: (kib("Private_Clean") + kib("Private_Dirty")) * 1024,
  };
}

async function ofVcpus(pid: number, cpus: readonly Cpu[]): Promise<VmStats> {
  const times = cpus.map(async (cpu): Promise<[string, bigint]> => {
    const fields = await statFields(`/proc/${pid}/task/${cpu["thread-id"]}/stat`);
    return [`vcpu${cpu["cpu-index"]}_cpu_ns`, cpuTime(fields)];
  });
  return Object.fromEntries(await Promise.all(times));
}

/** KVM's own counters, summed over the vCPUs; none under TCG. */
async function ofKvm(qmp: Qmp, options: QmpOptions): Promise<VmStats> {
  const results = await qmp.execute<StatsResult[]>("query-stats", { target: "vcpu" }, options);
  const sums = new Map<string, number>();
  for (const { provider, stats } of results) {
    for (const { name, value } of stats) {
      if (provider === "kvm" && typeof value === "number") {
        sums.set(name, (sums.get(name) ?? 0) + value);
      }
    }
  }
  const exits = sums.get("exits");
  // The host's own interrupts and NMIs end a guest's turn too; they are no work of the guest's.
  const guests =
    exits === undefined
      ? {}
      : { exits: exits - (sums.get("irq_exits") ?? 0) - (sums.get("nmi_window_exits") ?? 0) };
  return { ...guests, ...Object.fromEntries([...sums].map(([name, value]) => [`kvm_${name}`, value])) };
}

function ofDisks(all: readonly BlockStats[], definition: VmDefinition): VmStats {
  const result: Record<string, number> = {};
  let [read, written] = [0, 0];
  for (const [index, { id }] of definition.disks.entries()) {
    const found = all.find(
      (each) => each["node-name"] === diskNode(index) || each.qdev?.includes(`vd${index}/`),
    );
    const counter = (name: string) => Number(found?.stats[name] ?? 0);
    result[`${id}_read_bytes`] = counter("rd_bytes");
    result[`${id}_written_bytes`] = counter("wr_bytes");
    result[`${id}_reads`] = counter("rd_operations");
    result[`${id}_writes`] = counter("wr_operations");
    read += counter("rd_bytes");
    written += counter("wr_bytes");
  }
  return { ...result, disk_read_bytes: read, disk_written_bytes: written };
}

async function ofNics(definition: VmDefinition): Promise<VmStats> {
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

async function ofBalloon(qmp: Qmp, options: QmpOptions): Promise<VmStats> {
  const { actual } = await qmp.execute<{ actual: number }>("query-balloon", undefined, options);
  return { memory_bytes: actual };
}
