// SPDX-License-Identifier: Apache-2.0
/** The section `performance` of a definition, and what becomes of it: a machine's options, QEMU's arguments. */
import { describe, expect, it } from "vitest";
import { qemuArguments } from "../../src/v3m/backends/qemu/arguments.js";
import { KINDS } from "../../src/v3m/backends/qemu/kind.js";
import { pinThread } from "../../src/v3m/backends/qemu/threads.js";
import { machineOptions } from "../../src/v3m/backends/vmm-hpc/machine.js";
import { featuresOf } from "../../src/v3m/definition/features.js";
import type { PerformanceOptions } from "../../src/vmm/index.js";
import type { MachineOptions } from "../../src/vmm/options.js";
import { placementSpec } from "../../src/vmm/performance.js";
import { complaints, load } from "../support/definitions.js";

const MIB = 1 << 20;
const HEAD = "name: a\nboot: { kernel: k }\n";

const NODES = `cpus: 4
performance:
  numa:
    - { cpus: 0-1, memory: 64M, hostNode: 0, distances: [10, 17] }
    - { cpus: [2, 3], memory: 32M, distances: [17, 10] }
`;

describe("performance, in a definition", () => {
  it("is nothing where nothing is said", async () => {
    expect((await load(`${HEAD}performance: {}\n`)).performance).toBeUndefined();
    expect((await load(HEAD)).performance).toBeUndefined();
  });

  it("says all that it can", async () => {
    const vm = await load(
      `${HEAD}cpus: 2\nperformance: { pin: 2-3, topology: { sockets: 2 }, hugePages: 1G, prefault: true, hostNode: 1, ioPin: 0-1, realtime: { vcpus: 50, io: 60 }, withoutExits: [pause, halt, halt], cacheCores: 1 }\nmemory: 2G\n`,
    );
    expect(vm).toMatchObject({
      pin: [2, 3],
      topology: { sockets: 2, coresPerSocket: 1, threadsPerCore: 1 },
      memory: { bytes: 2048 * MIB, backing: "huge-1G", prefault: true, numaNode: 1 },
    });
    expect(vm.performance).toEqual({
      ioPin: [0, 1],
      realtime: { vcpus: 50, io: 60 },
      withoutExits: ["pause", "halt"],
      cacheCores: 1,
    });
    expect(featuresOf(vm)).toEqual([
      "boot:kernel",
      "topology",
      "pin",
      "hugepages",
      "io-pin",
      "realtime",
      "without-exits",
      "cache-cores",
    ]);
    expect((await load(`${HEAD}performance: { realtime: 7 }\n`)).performance).toEqual({
      realtime: { vcpus: 7 },
    });
  });

  it("has NUMA nodes, whose memory is the VM's", async () => {
    const vm = await load(HEAD + NODES);
    expect(vm.memory.bytes).toBe(96 * MIB);
    expect(vm.performance?.numa).toEqual([
      { cpus: [0, 1], bytes: 64 * MIB, hostNode: 0, distances: [10, 17] },
      { cpus: [2, 3], bytes: 32 * MIB, distances: [17, 10] },
    ]);
    expect(featuresOf(vm)).toEqual(["boot:kernel", "numa"]);
  });

  it.each([
    ["pin: 1\nperformance: { pin: 2 }", /performance\.pin: is said twice: pin stands there too/],
    ["memory: { backing: thp }\nperformance: { hugePages: 2M }", /hugePages: is said twice: memory\.backing/],
    ["memory: { numaNode: 0 }\nperformance: { hostNode: 0 }", /hostNode: is said twice/],
    ["performance: { hugePages: 4M }", /performance\.hugePages: "4M" is not valid here/],
    ["performance: { realtime: 100 }", /performance\.realtime: .*1 to 99/],
    ["performance: { realtime: { cpu: 1 } }", /performance\.realtime\.cpu: unknown key/],
    ["performance: { ioPin: 3-1 }", /performance\.ioPin: 3-1 runs backwards/],
    ["performance: { withoutExits: [mwait] }", /withoutExits\[0\].*halt, pause/],
    ["performance: { withoutExits: [halt] }", /withoutExits: not every vCPU has a host CPU of its own/],
    ["cpus: 2\npin: 1\nperformance: { withoutExits: [halt] }", /withoutExits: not every vCPU/],
    ["performance: { numa: [] }", /performance\.numa/],
    [
      "performance: { numa: [{ cpus: 0, memory: 1M }, { cpus: 1, memory: 1M }] }",
      /there is no vCPU 1: cpus is 1/,
    ],
    ["cpus: 2\nperformance: { numa: [{ cpus: 0, memory: 1M }] }", /numa: vCPU 1 is in no node/],
    ["performance: { numa: [{ cpus: 0, memory: 1M }, { cpus: 0, memory: 1M }] }", /vCPU 0 is in two nodes/],
    ["performance: { numa: [{ cpus: 0, memory: 4095B }] }", /memory: 4095B is not a multiple of 4 KiB/],
    ["performance: { numa: [{ cpus: 0, memory: 1M, distances: [10, 20] }] }", /2 distances to 1 nodes/],
    ["performance: { numa: [{ cpus: 0, memory: 1M, distances: [20] }] }", /distances\[0\]: 20 cannot be/],
    [
      "memory: 64M\nperformance: { numa: [{ cpus: 0, memory: 32M }] }",
      /memory: the NUMA nodes have 32M together/,
    ],
    ["performance: { gangs: x }", /performance\.gangs: unknown key/],
  ])("is refused: %s", async (text, expected) => {
    expect((await complaints(`${HEAD}${text}\n`)).join("\n")).toMatch(expected);
  });

  it("becomes options of VMM-HPC's machine: memory in one region for each node", async () => {
    const options = await machineOptions(await load(HEAD + NODES), [], "/c");
    expect(options.memory).toEqual([
      { bytes: 64 * MIB, backing: "thp", prefault: false, numaNode: 0, node: 0 },
      { bytes: 32 * MIB, backing: "thp", prefault: false, node: 1 },
    ]);
    expect(options.performance).toEqual({
      realtime: {},
      numa: [
        { cpus: [0, 1], distances: [10, 17] },
        { cpus: [2, 3], distances: [17, 10] },
      ],
    });
  });

  it("becomes arguments of QEMU", async () => {
    const text = (
      await qemuArguments(KINDS.Qemu, await load(`name: a\ntype: Qemu\ncdrom: /dev/null\n${NODES}`), "/state")
    ).join(" ");
    expect(text).toContain('"id":"ram0","size":67108864,"prealloc":false,"host-nodes":[0],"policy":"bind"');
    expect(text).toContain("-numa node,nodeid=0,memdev=ram0,cpus=0,cpus=1");
    expect(text).toContain("-numa node,nodeid=1,memdev=ram1,cpus=2,cpus=3");
    expect(text).toContain("-numa dist,src=0,dst=1,val=17");
    expect(text).toContain("-machine q35 ");
  });
});

describe("performance, as options of a machine", () => {
  const spec = (performance: PerformanceOptions, more: Partial<MachineOptions> = {}) =>
    placementSpec({ kernel: "k", cpus: 2, performance, ...more });

  it("is nothing where nothing is asked for", () => {
    expect(placementSpec({ kernel: "k" })).toBeUndefined();
    expect(spec({ realtime: {}, ioPin: [], numa: [], withoutExits: [] })).toBeUndefined();
  });

  it("becomes numbers", () => {
    const memory = [{ bytes: MIB, node: 1 }, { bytes: MIB }];
    expect(
      spec(
        {
          ioPin: [3],
          realtime: { io: 5 },
          withoutExits: ["pause"],
          numa: [{ cpus: [1], distances: [10, 30] }, { cpus: [0] }],
          cacheCores: 1,
        },
        { memory },
      ),
    ).toEqual({
      withoutExits: 2,
      vcpuPriority: 0,
      ioPriority: 5,
      ioPin: [3],
      nodes: 2,
      vcpuNodes: [1, 0],
      memoryNodes: [1, 0],
      distances: [10, 30, 20, 10],
      cacheCores: 1,
    });
  });

  it.each<[PerformanceOptions, Partial<MachineOptions>, RegExp]>([
    [{ realtime: { vcpus: 0 } }, {}, /priority of vCPUs is 1 to 99, not 0/],
    [{ realtime: { io: 1.5 } }, {}, /priority of I\/O is 1 to 99, not 1.5/],
    [{ ioPin: [-1] }, {}, /a host CPU for I\/O is 0 to/],
    [{ cacheCores: 0 }, {}, /cores that share a cache/],
    [{ withoutExits: ["mwait" as "halt"] }, {}, /always has exits for mwait/],
    [{ numa: [{ cpus: [0, 2] }] }, {}, /a vCPU of NUMA node 0 is 0 to 1, not 2/],
    [{ numa: [{ cpus: [0] }] }, {}, /vCPU 1 is in no NUMA node/],
    [{ numa: [{ cpus: [0, 1] }, { cpus: [1] }] }, {}, /vCPU 1 is in two NUMA nodes/],
    [{ numa: [{ cpus: [0, 1], distances: [10, 20] }] }, {}, /has 2 distances, to 1 nodes/],
    [{ numa: [{ cpus: [0, 1], distances: [9] }] }, {}, /a distance of NUMA node 0 is 10 to 255/],
    [{}, { memory: [{ bytes: MIB, node: 0 }] }, /memory region 0 names a NUMA node, and there are none/],
    [
      { numa: [{ cpus: [0, 1] }] },
      { memory: [{ bytes: MIB, node: 1 }] },
      /NUMA node of memory region 0 is 0 to 0/,
    ],
  ])("%j is refused", (performance, more, expected) => {
    expect(() => spec(performance, more)).toThrow(expected);
  });
});

describe("threads of QEMU's", () => {
  it("a host CPU that is not there is refused, also beside one that is", () => {
    expect(() => pinThread(process.pid, [8191], "vCPU 0")).toThrow(
      /cannot pin vCPU 0 to host CPU 8191: EINVAL/,
    );
  });
});
