// SPDX-License-Identifier: Apache-2.0
/** Options of `v2m run`, checked and turned into those of a Machine. */
import { KERNEL_KINDS, type KernelKind, type MachineOptions, type MemoryBacking } from "../vmm/options.js";
import { parseCount, parseCpuList, parseDuration, parseSize, UsageError } from "./values.js";

/** As commander gives them. */
export interface RunFlags {
  readonly kernel: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly memory: string;
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

export interface RunPlan {
  readonly machine: MachineOptions;
  readonly timeoutMs: number | undefined;
  readonly ready: string | undefined;
  readonly stats: boolean;
  readonly json: boolean;
}

/** @throws UsageError, before anything is opened or made. */
export function planRun(flags: RunFlags): RunPlan {
  const cpus = parseCount(flags.cpus, "--cpus", 1);
  const bytes = parseSize(flags.memory, "--memory");
  const machine: MachineOptions = {
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
    kernel: flags.kernel,
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
  };
  return {
    machine,
    timeoutMs: flags.timeout === undefined ? undefined : parseDuration(flags.timeout, "--timeout"),
    ready: flags.ready,
    stats: flags.stats === true,
    json: flags.json === true,
  };
}
