// SPDX-License-Identifier: Apache-2.0
/** What a measurement costs beside time: exits and interrupts of its guests, CPU time of the host. */
import type { Machine } from "../vmm/machine.js";
import type { Outcome } from "./contender.js";
import { hostCpuNs } from "./cpu-time.js";
import type { Sample } from "./program.js";

interface Counters {
  readonly exits: number;
  readonly interrupts: number;
  readonly cpuNs: number;
}

export function readCounters(machines: readonly Machine[]): Counters {
  const stats = machines.map((machine) => machine.kvmStats());
  const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
  return {
    exits: sum(stats.map(({ guestExits }) => guestExits)),
    interrupts: sum(stats.map(({ total }) => total.irq_injections ?? Number.NaN)),
    cpuNs: hostCpuNs(),
  };
}

export function outcomeOf(samples: readonly Sample[], before: Counters, after: Counters): Outcome {
  const interrupts = after.interrupts - before.interrupts;
  return {
    samples,
    exits: after.exits - before.exits,
    interrupts: Number.isFinite(interrupts) ? interrupts : null,
    cpuNs: after.cpuNs - before.cpuNs,
  };
}

export const NO_COUNTERS: Counters = { exits: 0, interrupts: 0, cpuNs: 0 };
