// SPDX-License-Identifier: Apache-2.0
/** Counters of a running machine: from QEMU, from KVM through QEMU, and from the host's kernel about the process. */
import type { VmStats } from "../../../vmm/backend.js";
import type { VmDefinition } from "../../definition/types.js";
import { cpuTime, nicStats, processStats, statFields } from "../process-stats.js";
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

export async function machineStats(
  qmp: Qmp,
  definition: VmDefinition,
  pid: number,
  options: QmpOptions = {},
): Promise<VmStats> {
  const cpus = await qmp.execute<Cpu[]>("query-cpus-fast", undefined, options);
  return {
    ...(await processStats(pid)),
    ...(await ofVcpus(pid, cpus)),
    ...(await ofKvm(qmp, options)),
    ...ofDisks(await qmp.execute<BlockStats[]>("query-blockstats", undefined, options), definition),
    ...(await nicStats(definition)),
    ...(definition.balloon ? await ofBalloon(qmp, options) : {}),
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

async function ofBalloon(qmp: Qmp, options: QmpOptions): Promise<VmStats> {
  const { actual } = await qmp.execute<{ actual: number }>("query-balloon", undefined, options);
  return { memory_bytes: actual };
}
