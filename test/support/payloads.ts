// SPDX-License-Identifier: Apache-2.0
/**
 * The tiny guests of firmware/payloads, by name, with their parameters by name (firmware/README.md says what
 * each does and prints):
 *
 *     const machine = await Machine.create({ ...payload("pio", { count: 10, port: 0x500 }), cpus: 1 });
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { LOAD_ADDRESS, PARAMETER_MAGIC, PARAMETERS_MAX, setParameter } from "../../src/measure/payload.js";
import type { KernelKind } from "../../src/vmm/options.js";

export { LOAD_ADDRESS, PARAMETER_MAGIC, PARAMETERS_MAX };

/** A test may listen here: a payload writes its exit status (0 is success) before it powers off. */
export const EXIT_PORT = 0xf4;
/** Where payloads access ports and memory unless told otherwise: nothing is there. */
export const SCRATCH_PORT = 0xf0;
export const SCRATCH_ADDRESS = 0xd000_0000;

interface PayloadInfo {
  readonly file: string;
  readonly kind: KernelKind;
  /** Names of its parameters, in order. */
  readonly parameters: readonly string[];
}

function flat64<const P extends readonly string[]>(name: string, parameters: P) {
  return { file: `${name}.bin`, kind: "flat64", parameters } as const;
}

function loaded<const K extends KernelKind>(file: string, kind: K) {
  return { file, kind, parameters: [] } as const;
}

export const payloads = {
  hello: flat64("hello", ["count"]),
  pio: flat64("pio", ["count", "port", "bytes", "read", "value"]),
  string: flat64("string", ["count", "port", "bytes", "read"]),
  mmio: flat64("mmio", ["count", "address", "sizes", "directions"]),
  halt: flat64("halt", ["count", "external", "gsi", "ticks"]),
  timer: flat64("timer", ["count", "modes", "ticks"]),
  smp: flat64("smp", ["cpus", "rounds"]),
  fault: flat64("fault", ["pages"]),
  ring3: flat64("ring3", ["tries", "port", "address", "count"]),
  triple: flat64("triple", []),
  busy: flat64("busy", ["mode", "port"]),
  compute: flat64("compute", ["rounds"]),
  reset: flat64("reset", ["method"]),
  memory: flat64("memory", ["start", "end", "step"]),
  cpuid: flat64("cpuid", ["cpus"]),
  echo: flat64("echo", ["mode", "delay", "fifo"]),
  garbage: flat64("garbage", ["seed", "passes", "firstPort", "lastPort", "targets"]),
  peers: flat64("peers", ["partners", "name", "seed"]),
  shm: flat64("shm", ["mode", "count", "partner", "control", "bytes"]),
  hypercall: flat64("hypercall", ["rounds", "port", "number", "calls", "stop"]),
  hello16: { file: "hello16.bin", kind: "flat16", parameters: [] },
  modes16: { file: "modes16.bin", kind: "flat16", parameters: [] },
  "boot-pvh": loaded("boot-pvh.elf", "pvh"),
  "boot-multiboot32": loaded("boot-multiboot32.elf", "multiboot"),
  "boot-multiboot64": loaded("boot-multiboot64.elf", "multiboot"),
  "boot-multiboot": loaded("boot-multiboot.bin", "multiboot"),
  "boot-linux": loaded("boot-linux.bin", "bzimage"),
  "boot-linux-elf": loaded("boot-linux.elf", "linux"),
} as const satisfies Record<string, PayloadInfo>;

export type PayloadName = keyof typeof payloads;
type ParameterName<N extends PayloadName> = (typeof payloads)[N]["parameters"][number];
export type PayloadParameters<N extends PayloadName> = [ParameterName<N>] extends [never]
  ? Readonly<Record<string, never>>
  : Readonly<Partial<Record<ParameterName<N>, number | bigint>>>;

/** What a machine needs to boot a payload; spread it into its options. */
export interface Payload {
  readonly kernel: Uint8Array;
  readonly kind: KernelKind;
  readonly loadAddress?: number;
}

export const payloadNames = Object.keys(payloads) as PayloadName[];

/** The image as it was built. */
export function payloadPath(name: PayloadName): string {
  return join(packageRoot(), "firmware/build", payloads[name].file);
}

/** Write parameters into an image, which is changed in place. */
function setParameters(name: string, image: Buffer, names: readonly string[], values: object): void {
  for (const [key, value] of Object.entries(values) as [string, number | bigint | undefined][]) {
    if (value !== undefined && !setParameter(image, names.indexOf(key), value)) {
      throw new TypeError(`payload ${name} has no parameter ${key}: it has ${names.join(", ") || "none"}`);
    }
  }
}

/** A payload with some of its parameters changed; the rest keep the defaults that its source names. */
export function payload<N extends PayloadName>(name: N, parameters?: PayloadParameters<N>): Payload {
  const info: PayloadInfo = payloads[name];
  const kernel = readFileSync(payloadPath(name));
  setParameters(name, kernel, info.parameters, parameters ?? {});
  if (info.kind === "flat16" || info.kind === "flat64") {
    return { kernel, kind: info.kind, loadAddress: LOAD_ADDRESS[info.kind] };
  }
  return { kernel, kind: info.kind };
}
