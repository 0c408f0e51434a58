// SPDX-License-Identifier: Apache-2.0
/** What a measurement costs beside time: exits and interrupts of its guests, CPU time of the host. */
import type { KvmStats } from "../vmm/stats.js";
import type { Outcome } from "./contender.js";
import { hostCpuNs } from "./cpu-time.js";
import type { Sample } from "./program.js";

export interface Counters {
  readonly exits: number;
  /** NaN where KVM does not count them. */
  readonly interrupts: number;
  readonly cpuNs: number;
}

const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);

/** Now, of guests with these counters; of guests that have not begun, all is 0. */
export function countersOf(guests: readonly KvmStats[]): Counters {
  return {
    exits: sum(guests.map(({ guestExits }) => guestExits)),
    interrupts: sum(guests.map(({ total }) => total.irq_injections ?? Number.NaN)),
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
