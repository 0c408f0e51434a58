// SPDX-License-Identifier: Apache-2.0
/** CPU time of this process and of those that work for its machines: passt, vhost-net's kernel threads. */
import { readdirSync, readFileSync } from "node:fs";

/** Name, parent and CPU time of a process; undefined where it has just ended. */
function look(pid: string): { name: string; parent: number; ns: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const end = stat.lastIndexOf(")");
    const ns = Number(readFileSync(`/proc/${pid}/schedstat`, "latin1").split(" ")[0]);
    return {
      name: stat.slice(stat.indexOf("(") + 1, end),
      parent: Number(stat.slice(end + 2).split(" ")[1]),
      ns,
    };
  } catch {
    return undefined;
  }
}

/** Nanoseconds so far. What the kernel does in interrupts is not in it. */
export function hostCpuNs(): number {
  const { user, system } = process.cpuUsage();
  let sum = (user + system) * 1000;
  for (const pid of readdirSync("/proc")) {
    const found = /^\d+$/.test(pid) ? look(pid) : undefined;
    // A vhost thread is named after its owner; since Linux 6.4 it is one of its threads, and counted already.
    const ours = found?.parent === process.pid || found?.name === `vhost-${process.pid}`;
    if (found !== undefined && ours) sum += found.ns;
  }
  return sum;
}
