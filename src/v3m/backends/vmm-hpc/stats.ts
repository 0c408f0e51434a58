// SPDX-License-Identifier: Apache-2.0
/** Counters of a running machine: the monitor's, KVM's, and what the host's kernel says of the process. */
import type { VmStats } from "../../../vmm/backend.js";
import type { Machine } from "../../../vmm/machine.js";
import type { VmDefinition } from "../../definition/types.js";
import { nicStats, processStats } from "../process-stats.js";

export async function machineStats(machine: Machine, definition: VmDefinition): Promise<VmStats> {
  const { pid } = machine.monitorInfo();
  return {
    ...(await processStats(pid)),
    ...ofKvm(machine),
    ...ofMachine(machine),
    ...(await nicStats(definition)),
    ...(definition.balloon ? ofBalloon(machine, definition) : {}),
    ...ofModules(machine),
  };
}

function ofKvm(machine: Machine): VmStats {
  const { guestExits, total } = machine.kvmStats();
  return {
    exits: guestExits,
    ...Object.fromEntries(Object.entries(total).map(([name, value]) => [`kvm_${name}`, value])),
  };
}

/** Exits that reached the monitor, and the time that it took for them. */
function ofMachine(machine: Machine): VmStats {
  const { vcpus, resets, console } = machine.stats();
  const result: Record<string, number> = { resets, console_bytes: console.out };
  for (const [index, { runNs, outsideNs, exits }] of vcpus.entries()) {
    result[`vcpu${index}_run_ns`] = runNs;
    result[`vcpu${index}_outside_ns`] = outsideNs;
    for (const { reason, count } of exits) {
      const name = `monitor_${reason.replaceAll("-", "_")}_exits`;
      result[name] = (result[name] ?? 0) + count;
    }
  }
  return result;
}

function ofBalloon(machine: Machine, { memory }: VmDefinition): VmStats {
  return { memory_bytes: BigInt(memory.bytes) - machine.balloon.get().actual };
}

function ofModules(machine: Machine): VmStats {
  return Object.fromEntries(
    machine.modules
      .list()
      .map(({ name, deviceCalls, hypercalls, hookCalls }) => [
        `module_${name.replaceAll(/[^a-z0-9]/gi, "_")}_calls`,
        deviceCalls + hypercalls + hookCalls,
      ]),
  );
}
