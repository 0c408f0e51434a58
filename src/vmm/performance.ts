// SPDX-License-Identifier: Apache-2.0
/** Where and how a machine runs, and what its guest sees of that: in words, and their translation for libvmmhpc-place. */
import { ArgumentError } from "../errors.js";
import {
  DISTANCE_LOCAL,
  DISTANCE_REMOTE,
  type PlacementSpec,
  PRIORITY_MAX,
  WithoutExit,
} from "../ffi/place.js";
import type { MachineOptions } from "./options.js";

/** What a guest does without leaving it. */
export type UnexitedInstruction = "halt" | "pause";

/** A NUMA node as the guest sees it. */
export interface GuestNode {
  /** Its vCPUs. */
  readonly cpus: readonly number[];
  /** Distances from it to each node, its own (10) included. Default 20 to any other. */
  readonly distances?: readonly number[];
}

/** Each is done, or the machine is refused with the reason; nothing is ignored. */
export interface PerformanceOptions {
  /** Host CPUs of the threads that serve devices. Default: any. */
  readonly ioPin?: readonly number[];
  /** SCHED_FIFO priorities, 1 to 99. Default: none. It takes CAP_SYS_NICE or RLIMIT_RTPRIO (E_PERMISSION). */
  readonly realtime?: { readonly vcpus?: number; readonly io?: number };
  /** What does not leave the guest: only with a `pin` that gives each vCPU a host CPU of its own. */
  readonly withoutExits?: readonly UnexitedInstruction[];
  /** NUMA nodes of the guest; the `node` of a memory region names the one that it is in. */
  readonly numa?: readonly GuestNode[];
  /** Neighbouring cores that share a last-level cache: all of a socket (default), or a power of two. */
  readonly cacheCores?: number;
}

const EXITS: Readonly<Record<UnexitedInstruction, number>> = {
  halt: WithoutExit.HALT,
  pause: WithoutExit.PAUSE,
};

const INT32_MAX = 0x7fff_ffff;

function within(value: number, name: string, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new ArgumentError(`${name} is ${min} to ${max}, not ${value}`, {
      ...(Number.isSafeInteger(value) ? { value: BigInt(value) } : {}),
    });
  }
  return value;
}

function exits(names: readonly UnexitedInstruction[]): number {
  return names.reduce((bits, name) => {
    const bit = EXITS[name];
    if (bit === undefined) {
      throw new ArgumentError(`a machine always has exits for ${String(name)}`, {
        hint: `it can go without those for ${Object.keys(EXITS).join(", ")}`,
      });
    }
    return bits | bit;
  }, 0);
}

function vcpuNodes(nodes: readonly GuestNode[], cpus: number): number[] {
  if (nodes.length === 0 || !Number.isInteger(cpus) || cpus < 1 || cpus > 0xffff) return []; // the library refuses such a count
  const of = new Array<number>(cpus).fill(-1);
  nodes.forEach((node, index) => {
    for (const cpu of node.cpus) {
      within(cpu, `a vCPU of NUMA node ${index}`, 0, cpus - 1);
      if (of[cpu] !== -1) throw new ArgumentError(`vCPU ${cpu} is in two NUMA nodes`);
      of[cpu] = index;
    }
  });
  const without = of.indexOf(-1);
  if (without !== -1) throw new ArgumentError(`vCPU ${without} is in no NUMA node`);
  return of;
}

function memoryNodes(nodes: readonly GuestNode[], memory: MachineOptions["memory"]): number[] {
  const regions = typeof memory === "object" ? memory : [{ bytes: 0 }];
  if (nodes.length === 0) {
    const index = regions.findIndex(({ node }) => node !== undefined);
    if (index !== -1) {
      throw new ArgumentError(`memory region ${index} names a NUMA node, and there are none`, {
        hint: "give performance.numa",
      });
    }
    return [];
  }
  return regions.map(({ node = 0 }, index) =>
    within(node, `the NUMA node of memory region ${index}`, 0, nodes.length - 1),
  );
}

function distances(nodes: readonly GuestNode[]): number[] {
  if (nodes.every((node) => node.distances === undefined)) return [];
  return nodes.flatMap((node, from) => {
    const own = node.distances ?? nodes.map((_, to) => (to === from ? DISTANCE_LOCAL : DISTANCE_REMOTE));
    if (own.length !== nodes.length) {
      throw new ArgumentError(`NUMA node ${from} has ${own.length} distances, to ${nodes.length} nodes`);
    }
    return own.map((distance) => within(distance, `a distance of NUMA node ${from}`, DISTANCE_LOCAL, 255));
  });
}

/**
 * What libvmmhpc-place is told, or undefined where there is nothing to tell.
 * @throws ArgumentError for values that no machine can have; the library checks the rest
 */
export function placementSpec(options: MachineOptions): PlacementSpec | undefined {
  const { ioPin = [], realtime = {}, withoutExits = [], numa = [], cacheCores } = options.performance ?? {};
  const priority = (value: number | undefined, name: string) =>
    value === undefined ? 0 : within(value, name, 1, PRIORITY_MAX);
  const spec: PlacementSpec = {
    withoutExits: exits(withoutExits),
    vcpuPriority: priority(realtime.vcpus, "the real-time priority of vCPUs"),
    ioPriority: priority(realtime.io, "the real-time priority of I/O"),
    ioPin: ioPin.map((cpu) => within(cpu, "a host CPU for I/O", 0, INT32_MAX)),
    nodes: numa.length,
    vcpuNodes: vcpuNodes(numa, options.cpus ?? 1),
    memoryNodes: memoryNodes(numa, options.memory),
    distances: distances(numa),
    cacheCores: cacheCores === undefined ? 0 : within(cacheCores, "cores that share a cache", 1, INT32_MAX),
  };
  const nothing = [
    spec.withoutExits,
    spec.vcpuPriority,
    spec.ioPriority,
    spec.ioPin.length,
    spec.nodes,
    spec.cacheCores,
  ];
  return nothing.every((value) => value === 0) ? undefined : spec;
}
