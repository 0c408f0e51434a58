// SPDX-License-Identifier: Apache-2.0
/** Options of `v2m run`, checked and turned into those of a Machine. */
import { planDevices } from "../vmm/device-plan.js";
import type { GdbOptions } from "../vmm/gdb.js";
import { KERNEL_KINDS, type KernelKind, type MachineOptions, type MemoryBacking } from "../vmm/options.js";
import { type DeviceFlags, parseDevices } from "./device-options.js";
import { type GdbFlags, planGdb } from "./gdb-options.js";
import { type ModuleFlags, type ModulePlan, planModules } from "./module-options.js";
import { parseCount, parseCpuList, parseDuration, parseSize, UsageError } from "./values.js";

/** As commander gives them. */
export interface RunFlags extends DeviceFlags, GdbFlags, ModuleFlags {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly memory?: string;
  readonly cpus: string;
  readonly cores?: string;
  readonly threads?: string;
  readonly pin?: string;
  readonly hugepages: string | boolean;
  readonly prefault?: boolean;
  readonly numaNode?: string;
  readonly kind: string;
  readonly loadAddress?: string;
  readonly unpack: boolean;
  readonly reboot: boolean;
  readonly stats?: boolean;
  readonly ready?: string;
  readonly timeout?: string;
  readonly kvm?: string;
  readonly json?: boolean;
}

const BACKINGS: Readonly<Record<string, MemoryBacking>> = {
  thp: "thp",
  none: "anon",
  "2M": "huge-2M",
  "1G": "huge-1G",
  memfd: "memfd",
};

/** What backs guest RAM, by the value of --hugepages. @throws UsageError */
export function backing(value: string | boolean): MemoryBacking {
  const found = BACKINGS[value === true ? "2M" : String(value)];
  if (found === undefined) {
    throw new UsageError(`--hugepages ${value}: unknown`, `one of ${Object.keys(BACKINGS).join(", ")}`);
  }
  return found;
}

function kind(value: string): KernelKind {
  if (!Object.hasOwn(KERNEL_KINDS, value)) {
    throw new UsageError(`--kind ${value}: unknown`, `one of ${Object.keys(KERNEL_KINDS).join(", ")}`);
  }
  return value as KernelKind;
}

function address(text: string): bigint {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text)) {
    throw new UsageError(`--load-address ${text}: not an address`, "give a number such as 0x100000");
  }
  return BigInt(text);
}

/** RAM without --memory: a distribution needs more than a kernel does. */
const DEFAULT_MEMORY = { kernel: "128M", disk: "512M" } as const;

/** What the machine is made of but for the kernel, which may have to be read from its disk. */
type MachinePlan = Omit<MachineOptions, "kernel"> & { readonly kernel?: string };

export interface RunPlan {
  readonly machine: MachinePlan;
  /** The disk whose own kernel is to be booted, where none was given. */
  readonly bootDisk: string | undefined;
  readonly timeoutMs: number | undefined;
  readonly gdb: GdbOptions | undefined;
  readonly modules: readonly ModulePlan[];
  readonly ready: string | undefined;
  readonly stats: boolean;
  readonly json: boolean;
}

/** The disk to boot from. @throws UsageError */
function ownKernel(flags: RunFlags, disk: string | undefined): string {
  if (disk === undefined) {
    throw new UsageError(
      "neither --kernel nor --disk: nothing to boot",
      "give one of them; v2m run --help has examples",
    );
  }
  for (const [name, value] of [
    ["--initrd", flags.initrd],
    ["--load-address", flags.loadAddress],
  ]) {
    if (value !== undefined) {
      throw new UsageError(`${name} belongs to a --kernel, and there is none`, "give --kernel too");
    }
  }
  return disk;
}

/**
 * What the machine boots: the kernel that was given, or its disk's, whose command line stands in front of --append.
 * @throws V3mError
 */
export async function machineOptions(plan: RunPlan): Promise<MachineOptions> {
  const { kernel, cmdline, ...machine } = plan.machine;
  if (plan.bootDisk === undefined) {
    return { ...machine, kernel: kernel ?? "", ...(cmdline === undefined ? {} : { cmdline }) };
  }
  const { diskBoot } = await import("../disk/index.js");
  const own = await diskBoot(plan.bootDisk);
  return {
    ...machine,
    kernel: own.kernel,
    cmdline: cmdline === undefined ? own.cmdline : `${own.cmdline} ${cmdline}`,
    ...(own.initrd === undefined ? {} : { initrd: own.initrd }),
  };
}

/** @throws UsageError, before anything is opened or made. */
export function planRun(flags: RunFlags): RunPlan {
  const cpus = parseCount(flags.cpus, "--cpus", 1);
  const devices = parseDevices(flags);
  planDevices(devices); // an option's value that no machine can have is told before anything is made
  const bootDisk = flags.kernel === undefined ? ownKernel(flags, devices.disks?.[0]?.path) : undefined;
  const bytes = parseSize(
    flags.memory ?? DEFAULT_MEMORY[bootDisk === undefined ? "kernel" : "disk"],
    "--memory",
  );
  const machine: MachinePlan = {
    cpus,
    memory: [
      {
        bytes,
        backing: backing(flags.hugepages),
        prefault: flags.prefault === true,
        ...(flags.numaNode === undefined
          ? {}
          : { numaNode: parseCount(flags.numaNode, "--numa-node", 0, 1023) }),
      },
    ],
    ...(flags.kernel === undefined ? {} : { kernel: flags.kernel }),
    kind: kind(flags.kind),
    unpack: flags.unpack,
    onReset: flags.reboot ? "reboot" : "stop",
    ...(flags.cores === undefined ? {} : { coresPerSocket: parseCount(flags.cores, "--cores", 1) }),
    ...(flags.threads === undefined ? {} : { threadsPerCore: parseCount(flags.threads, "--threads", 1) }),
    ...(flags.initrd === undefined ? {} : { initrd: flags.initrd }),
    ...(flags.append === undefined ? {} : { cmdline: flags.append }),
    ...(flags.pin === undefined ? {} : { pin: parseCpuList(flags.pin, "--pin") }),
    ...(flags.loadAddress === undefined ? {} : { loadAddress: address(flags.loadAddress) }),
    ...(flags.kvm === undefined ? {} : { kvmPath: flags.kvm }),
    ...devices,
  };
  return {
    machine,
    bootDisk,
    gdb: planGdb(flags),
    modules: planModules(flags.module),
    timeoutMs: flags.timeout === undefined ? undefined : parseDuration(flags.timeout, "--timeout"),
    ready: flags.ready,
    stats: flags.stats === true,
    json: flags.json === true,
  };
}
