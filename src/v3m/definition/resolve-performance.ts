// SPDX-License-Identifier: Apache-2.0
/** The section `performance` of a definition: what other keys say too becomes theirs, the rest is checked. */
import { parseCpuList } from "./cpu-list.js";
import type { Path } from "./document.js";
import type { Problems } from "./problems.js";
import type { DefinitionInput } from "./schema.js";
import type { VmNumaNode, VmPerformance } from "./types.js";
import { parseBytes, SIZE_HELP } from "./units.js";

type Input = NonNullable<DefinitionInput["performance"]>;
type NodeInput = NonNullable<Input["numa"]>[number];

const PAGE = 4096;
const LOCAL = 10;
const HUGE = { "2M": "huge-2M", "1G": "huge-1G" } as const;

/**
 * The definition with what `performance` says of `pin`, `topology` and `memory` in those keys. Saying one of them twice
 * is a problem.
 */
export function spreadPerformance(input: DefinitionInput, problems: Problems): DefinitionInput {
  const { pin, topology, hugePages, prefault, hostNode } = input.performance ?? {};
  const twice = (key: string, other: unknown, where: string) => {
    if (other !== undefined) {
      problems.add(
        ["performance", key],
        `is said twice: ${where} stands there too`,
        "leave one of them away",
      );
    }
  };
  if (pin !== undefined) twice("pin", input.pin, "pin");
  if (topology !== undefined) twice("topology", input.topology, "topology");
  const given = typeof input.memory === "object" ? input.memory : undefined;
  if (hugePages !== undefined) twice("hugePages", given?.backing, "memory.backing");
  if (prefault !== undefined) twice("prefault", given?.prefault, "memory.prefault");
  if (hostNode !== undefined) twice("hostNode", given?.numaNode, "memory.numaNode");
  const memory = {
    ...(typeof input.memory === "object"
      ? input.memory
      : input.memory === undefined
        ? {}
        : { size: input.memory }),
    ...(hugePages === undefined ? {} : { backing: HUGE[hugePages] }),
    ...(prefault === undefined ? {} : { prefault }),
    ...(hostNode === undefined ? {} : { numaNode: hostNode }),
  };
  const unchanged = hugePages === undefined && prefault === undefined && hostNode === undefined;
  return {
    ...input,
    ...(pin === undefined ? {} : { pin }),
    ...(topology === undefined ? {} : { topology }),
    ...(unchanged ? {} : { memory }),
  };
}

function numaNode(input: NodeInput, index: number, count: number, problems: Problems): VmNumaNode {
  const at = (key: string): Path => ["performance", "numa", index, key];
  const bytes = parseBytes(input.memory);
  if (bytes === undefined || bytes === 0 || bytes % PAGE !== 0) {
    problems.add(at("memory"), `${input.memory} is not a multiple of 4 KiB`, SIZE_HELP);
  }
  const { distances = [] } = input;
  if (distances.length > 0 && distances.length !== count) {
    problems.add(
      at("distances"),
      `${distances.length} distances to ${count} nodes`,
      "one to each, itself included",
    );
  }
  distances.forEach((distance, to) => {
    if ((to === index) !== (distance === LOCAL)) {
      problems.add([...at("distances"), to], `${distance} cannot be`, `${LOCAL} to itself, more to others`);
    }
  });
  return {
    cpus: parseCpuList(input.cpus, (range) => problems.add(at("cpus"), `${range} runs backwards`)),
    bytes: bytes ?? 0,
    ...(input.hostNode === undefined ? {} : { hostNode: input.hostNode }),
    distances,
  };
}

/** Every vCPU is in one node. */
function checkCpus(nodes: readonly VmNumaNode[], cpus: number, problems: Problems): void {
  const of = new Map<number, number>();
  nodes.forEach((node, index) => {
    for (const cpu of node.cpus) {
      const path = ["performance", "numa", index, "cpus"];
      if (cpu >= cpus) problems.add(path, `there is no vCPU ${cpu}: cpus is ${cpus}`, `0 to ${cpus - 1}`);
      else if (of.has(cpu)) problems.add(path, `vCPU ${cpu} is in two nodes`);
      of.set(cpu, index);
    }
  });
  for (let cpu = 0; cpu < cpus && nodes.length > 0; cpu++) {
    if (!of.has(cpu)) problems.add(["performance", "numa"], `vCPU ${cpu} is in no node`, "name it in one");
  }
}

/** Exits are gone without on host CPUs that are a vCPU's own. */
function checkDedicated(pin: readonly number[], cpus: number, problems: Problems): void {
  if (pin.length < cpus || new Set(pin.slice(0, cpus)).size !== cpus) {
    const hint = "give pin a host CPU for each: a vCPU that halts without an exit keeps its own busy";
    problems.add(["performance", "withoutExits"], "not every vCPU has a host CPU of its own", hint);
  }
}

/** @returns undefined where nothing of it is said. @param pin host CPUs of the vCPUs */
export function resolvePerformance(
  input: Input | undefined,
  cpus: number,
  pin: readonly number[],
  problems: Problems,
): VmPerformance | undefined {
  if (input === undefined) return undefined;
  const { ioPin, realtime, withoutExits = [], numa = [], cacheCores, gang } = input;
  const nodes = numa.map((node, index) => numaNode(node, index, numa.length, problems));
  checkCpus(nodes, cpus, problems);
  if (withoutExits.length > 0) checkDedicated(pin, cpus, problems);
  const result: VmPerformance = {
    ...(ioPin === undefined
      ? {}
      : {
          ioPin: parseCpuList(ioPin, (range) =>
            problems.add(["performance", "ioPin"], `${range} runs backwards`, "give CPUs such as 0-3"),
          ),
        }),
    ...(realtime === undefined
      ? {}
      : { realtime: typeof realtime === "number" ? { vcpus: realtime } : realtime }),
    ...(withoutExits.length === 0 ? {} : { withoutExits: [...new Set(withoutExits)] }),
    ...(nodes.length === 0 ? {} : { numa: nodes }),
    ...(cacheCores === undefined ? {} : { cacheCores }),
    ...(gang === undefined ? {} : { gang }),
  };
  return Object.keys(result).length === 0 ? undefined : result;
}
