// SPDX-License-Identifier: Apache-2.0
/** QEMU's threads on the host CPUs, and with the priorities, that the definition names. */
import { readdirSync } from "node:fs";
import type { VmDefinition } from "../../definition/types.js";
import type { Qmp, QmpOptions } from "./qmp.js";
import { pinThread, prioritize } from "./threads.js";

interface Vcpu {
  readonly "cpu-index": number;
  readonly "thread-id": number;
}

/**
 * vCPU i takes element i of `pin` modulo its length. All other threads serve devices; those that QEMU makes later
 * inherit what they have. Nothing is done where nothing is asked for.
 * @throws HypervisorError E_INVALID, E_PERMISSION
 */
export async function placeThreads(
  qmp: Qmp,
  pid: number,
  { pin, performance }: VmDefinition,
  options: QmpOptions,
): Promise<void> {
  const { ioPin = [], realtime = {} } = performance ?? {};
  const { vcpus: vcpuPriority, io: ioPriority } = realtime;
  if (pin.length + ioPin.length === 0 && vcpuPriority === undefined && ioPriority === undefined) return;
  const vcpus = await qmp.execute<Vcpu[]>("query-cpus-fast", undefined, options);
  for (const { "cpu-index": index, "thread-id": tid } of vcpus) {
    if (pin.length > 0) pinThread(tid, [pin[index % pin.length] ?? 0], `vCPU ${index}`);
    if (vcpuPriority !== undefined) prioritize(tid, vcpuPriority, `vCPU ${index}`);
  }
  const own = new Set(vcpus.map((vcpu) => vcpu["thread-id"]));
  for (const tid of readdirSync(`/proc/${pid}/task`).map(Number)) {
    if (own.has(tid)) continue;
    if (ioPin.length > 0) pinThread(tid, ioPin, "an I/O thread");
    if (ioPriority !== undefined) prioritize(tid, ioPriority, "an I/O thread");
  }
}
