// SPDX-License-Identifier: Apache-2.0
/** Device modules for machine-workers.test.ts: each vCPU's Worker imports this and calls the factory. */
import type { Device, DeviceContext } from "../../src/vmm/index.js";

export interface ModuleData {
  readonly what: "counter" | "throw" | "throw-odd" | "fail" | "exit" | "differ" | "more" | "context" | "two";
  /** Element i: accesses by vCPU i; the one behind: by all. */
  readonly counts?: Int32Array<SharedArrayBuffer>;
}

/** Not to be sent to another thread. */
class OddError extends Error {
  readonly tool = () => {};
}

const PORT = 0xf0;

/** Counts accesses to port 0xf0; a read gives how many there were by all vCPUs. */
function counter({ vcpu, cpus, data }: DeviceContext<ModuleData>): Device {
  const counts = data.counts ?? new Int32Array(new SharedArrayBuffer(4 * (cpus + 1)));
  const count = (by: number) => {
    Atomics.add(counts, by, 1);
    return Atomics.add(counts, cpus, 1) + 1;
  };
  return {
    name: `counter of vCPU ${vcpu}`,
    space: "pio",
    base: PORT,
    bytes: 1,
    read: (_offset, _bytes, by) => count(by),
    write: (_offset, _value, _bytes, by) => {
      if (by !== vcpu) throw new Error(`vCPU ${by} came to the Worker of vCPU ${vcpu}`);
      count(by);
    },
  };
}

function throwing(make: () => unknown): Device {
  return {
    name: "bad device",
    space: "pio",
    base: PORT,
    bytes: 1,
    write: () => {
      throw make();
    },
  };
}

/** Answers from guest memory, raises interrupts, stops the machine. */
function contextual(context: DeviceContext<ModuleData>): Device {
  return {
    space: "mmio",
    base: 0xd000_0000,
    bytes: 4096,
    read: (offset, bytes) => {
      const magic = context.memory(0x10_0008, 8); // "V3MPARM1"
      return Buffer.from(magic).readUIntLE(offset, Math.min(bytes, 6));
    },
    write: () => {
      context.setIrq(5, true);
      context.setIrq(5, false);
      context.stop();
    },
  };
}

export default async function make(context: DeviceContext<ModuleData>): Promise<Device | Device[]> {
  await Promise.resolve();
  const moved = { ...counter(context), base: PORT + context.vcpu };
  switch (context.data.what) {
    case "counter":
      return counter(context);
    case "throw":
      return throwing(() => new RangeError("out of paper"));
    case "throw-odd":
      return throwing(() => new OddError("odd", { cause: () => {} }));
    case "fail":
      throw new Error("no such hardware");
    case "exit":
      return process.exit(3);
    case "differ":
      return moved;
    case "more":
      return context.vcpu === 0 ? counter(context) : [counter(context), { ...moved, base: 0x700 }];
    case "context":
      return contextual(context);
    case "two":
      return [counter(context), { ...counter(context), base: 0x500, bytes: 8 }];
  }
}
