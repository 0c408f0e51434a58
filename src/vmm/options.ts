// SPDX-License-Identifier: Apache-2.0
/** What a machine is made of, in the words of TypeScript, and its translation for libvmmhpc. */
import { ArgumentError } from "../errors.js";
import { Backing, Flag, ImageKind } from "../ffi/index.js";
import type * as native from "../ffi/machine.js";
import type { DeviceModule } from "./device.js";
import type { DeviceOptions } from "./devices.js";
import type { PerformanceOptions } from "./performance.js";

/** How guest RAM is backed: `huge-2M` and `huge-1G` need pages reserved on the host. */
export type MemoryBacking = "anon" | "thp" | "memfd" | "huge-2M" | "huge-1G";

/** One region of guest RAM; regions follow each other in guest-physical space, round the hole below 4 GiB. */
export interface MemoryRegion {
  /** Bytes: a multiple of 4 KiB (of the page size for huge pages). */
  readonly bytes: number | bigint;
  /** Default `thp`. */
  readonly backing?: MemoryBacking;
  /** Touch every page before the guest starts. */
  readonly prefault?: boolean;
  /** Host NUMA node to take the memory from. */
  readonly numaNode?: number;
  /** The guest's NUMA node that it is in, where `performance.numa` has some. Default 0. */
  readonly node?: number;
}

/** What kind of image the kernel is; `auto` recognises all but flat ones. */
export type KernelKind = "auto" | "bzimage" | "linux" | "pvh" | "multiboot" | "flat16" | "flat64";

export interface MachineOptions extends DeviceOptions {
  /** vCPUs, 1 to the host's limit. Default 1. */
  readonly cpus?: number;
  /** Topology shown to the guest. Default: one socket, one thread per core. */
  readonly coresPerSocket?: number;
  readonly threadsPerCore?: number;
  /** Bytes of RAM, or its regions. Default 128 MiB with transparent huge pages. */
  readonly memory?: number | bigint | readonly MemoryRegion[];
  /** Host CPU of each vCPU's thread, -1 for none; vCPU i takes element i modulo the length. */
  readonly pin?: readonly number[];
  /** What else decides where and how it runs, and what the guest sees of that. */
  readonly performance?: PerformanceOptions;
  /** Path or content. */
  readonly kernel: string | Uint8Array;
  readonly kind?: KernelKind;
  readonly initrd?: string | Uint8Array;
  readonly cmdline?: string;
  /** Flat images: guest-physical address of the first byte and of the entry. */
  readonly loadAddress?: number | bigint;
  /** Unpack a compressed bzImage on the host, once, and boot the vmlinux in it. Default true. */
  readonly unpack?: boolean;
  /** What a guest's reset does. Default `reboot`. */
  readonly onReset?: "reboot" | "stop";
  /** The 16550 console. Default true. */
  readonly uart?: boolean;
  /** No ACPI tables and no reset stub: for tiny guests that own all of their memory. */
  readonly bare?: boolean;
  /** An ACPI power button, for `Machine.pressPowerButton()`. */
  readonly powerButton?: boolean;
  /** Hide XSAVE and AVX. Automatic where the host's are broken (inside QEMU's TCG). */
  readonly hideXsave?: boolean;
  /**
   * Devices in TypeScript that answer in the thread of the vCPU: each vCPU is run by a Worker that imports
   * the module. 0.3 µs an access instead of the 23–35 µs of `Machine.addDevice`.
   */
  readonly deviceModules?: readonly DeviceModule[];
  /** Instead of /dev/kvm. */
  readonly kvmPath?: string;
}

export const DEFAULT_MEMORY = 128n << 20n;

const INT32_MAX = 0x7fff_ffff;

const BACKINGS: Readonly<Record<MemoryBacking, Backing>> = {
  anon: Backing.ANON,
  thp: Backing.THP,
  memfd: Backing.MEMFD,
  "huge-2M": Backing.HUGE_2M,
  "huge-1G": Backing.HUGE_1G,
};

export const KERNEL_KINDS: Readonly<Record<KernelKind, ImageKind>> = {
  auto: ImageKind.AUTO,
  bzimage: ImageKind.BZIMAGE,
  linux: ImageKind.ELF_LINUX,
  pvh: ImageKind.ELF_PVH,
  multiboot: ImageKind.MULTIBOOT,
  flat16: ImageKind.FLAT16,
  flat64: ImageKind.FLAT64,
};

function regions(memory: MachineOptions["memory"]): readonly MemoryRegion[] {
  if (memory === undefined) {
    return [{ bytes: DEFAULT_MEMORY }];
  }
  return typeof memory === "number" || typeof memory === "bigint" ? [{ bytes: memory }] : memory;
}

/** A whole number that fits where it goes. @throws ArgumentError */
export function whole(
  value: number | bigint,
  name: string,
  min = 0,
  max: number | bigint = 0xffff_ffff_ffff_ffffn,
): bigint {
  if (typeof value !== "bigint" && !Number.isSafeInteger(value)) {
    throw new ArgumentError(`${name} must be a whole number, not ${String(value)}`);
  }
  if (value < min) {
    throw new ArgumentError(`${name} must be at least ${min}, not ${value}`, { value: BigInt(value) });
  }
  if (value > max) {
    throw new ArgumentError(`${name} is too large: ${value}`, { value: BigInt(value) });
  }
  return BigInt(value);
}

function small(value: number, name: string, min: number, max = 0xffff_ffff): number {
  return Number(whole(value, name, min, max));
}

/** Text that ends at a NUL in C would be cut off there. */
function text(value: string, name: string): string {
  if (value.includes("\0")) {
    throw new ArgumentError(`${name} holds a NUL character`);
  }
  return value;
}

function region(spec: MemoryRegion, index: number): native.MemorySpec {
  const backing = BACKINGS[spec.backing ?? "thp"];
  if (backing === undefined) {
    throw new ArgumentError(`memory region ${index}: unknown backing ${String(spec.backing)}`, {
      hint: `one of ${Object.keys(BACKINGS).join(", ")}`,
    });
  }
  return {
    bytes: whole(spec.bytes, `memory region ${index}`),
    backing,
    prefault: spec.prefault ?? false,
    numaNode: small(spec.numaNode ?? -1, `NUMA node of memory region ${index}`, -1, INT32_MAX),
  };
}

/** What to load; `kernel` may be another file than the one that was asked for. @throws ArgumentError */
export function nativeBoot(options: MachineOptions, kernel: string | Uint8Array): native.BootSpec {
  const kind = KERNEL_KINDS[options.kind ?? "auto"];
  if (kind === undefined) {
    throw new ArgumentError(`unknown kind of kernel: ${String(options.kind)}`, {
      hint: `one of ${Object.keys(KERNEL_KINDS).join(", ")}`,
    });
  }
  const file = (from: string | Uint8Array, name: string) =>
    typeof from === "string" ? text(from, name) : from;
  const { initrd, cmdline, loadAddress } = options;
  return {
    kernel: file(kernel, "the kernel's path"),
    kind,
    ...(initrd === undefined ? {} : { initrd: file(initrd, "the initrd's path") }),
    ...(cmdline === undefined ? {} : { cmdline: text(cmdline, "the command line") }),
    ...(loadAddress === undefined ? {} : { loadAddress: whole(loadAddress, "the load address") }),
  };
}

/** @throws ArgumentError for values that no machine can have; libvmmhpc checks the rest. */
export function nativeConfig(options: MachineOptions): native.MachineConfig {
  let flags = 0;
  if (options.onReset === "stop") flags |= Flag.STOP_ON_RESET;
  if (options.uart === false) flags |= Flag.NO_UART;
  if (options.bare === true) flags |= Flag.BARE;
  if (options.hideXsave === true) flags |= Flag.HIDE_XSAVE;
  if (options.powerButton === true) flags |= Flag.POWER_BUTTON;
  if ((options.deviceModules?.length ?? 0) > 0) flags |= Flag.EXTERNAL_VCPUS;
  const pin = options.pin?.map((cpu, index) => small(cpu, `pin of vCPU ${index}`, -1, INT32_MAX));
  return {
    cpus: small(options.cpus ?? 1, "the number of vCPUs", 0),
    coresPerSocket: small(options.coresPerSocket ?? 0, "cores per socket", 0),
    threadsPerCore: small(options.threadsPerCore ?? 0, "threads per core", 0),
    memory: regions(options.memory).map(region),
    flags,
    ...(pin === undefined ? {} : { pin }),
    ...(options.kvmPath === undefined ? {} : { kvmPath: options.kvmPath }),
  };
}
