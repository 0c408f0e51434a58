// SPDX-License-Identifier: Apache-2.0
/** What `v2m doctor` looks at. Each check reads a fact and says what it means and how to mend it. */
import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import type { Host } from "../ffi/index.js";
import type { CapName } from "../kvm/constants.js";
import { Kvm } from "../kvm/index.js";
import { virtualization } from "../vmm/host.js";

export type Level = "ok" | "info" | "warning" | "missing";

export interface Check {
  readonly name: string;
  readonly level: Level;
  readonly value: string;
  /** What to type or do about it. */
  readonly hint?: string;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

function cpuCheck(host: Host): Check {
  const name = "CPU virtualization";
  const vendor = host.vendor === "GenuineIntel" ? "Intel" : host.vendor.includes("AMD") ? "AMD" : host.vendor;
  if (host.has_vmx !== 0) return { name, level: "ok", value: `${vendor} VT-x (vmx)` };
  if (host.has_svm !== 0) return { name, level: "ok", value: `${vendor}-V (svm)` };
  const inside = host.hypervisor !== "";
  return {
    name,
    level: "warning",
    value: `${vendor}, no vmx or svm flag${inside ? ` (a guest of ${host.hypervisor.replace(/\0/g, "")})` : ""}`,
    hint: inside
      ? "ask for nested virtualization on the outer host, or use npx v2m-testbed"
      : "switch virtualization (VT-x, AMD-V, SVM) on in the firmware's set-up",
  };
}

function deviceCheck(host: Host, error: string): Check {
  const name = "/dev/kvm";
  switch (host.kvm_status) {
    case 0:
      return { name, level: "ok", value: `usable, API ${host.api_version}, up to ${host.max_vcpus} vCPUs` };
    case -4:
      return {
        name,
        level: "missing",
        value: "no permission",
        hint: "sudo usermod -aG kvm $USER, then log in again",
      };
    default:
      return {
        name,
        level: "missing",
        value: error,
        hint: `sudo modprobe ${host.has_svm !== 0 ? "kvm-amd" : "kvm-intel"}`,
      };
  }
}

function moduleCheck(host: Host): Check {
  const name = "KVM implementation";
  const kind = virtualization(host);
  if (kind === "pvm") {
    return {
      name,
      level: "warning",
      value: "PVM: no virtualization hardware behind /dev/kvm; ring 0 is emulated, Linux guests do not boot",
      hint: "tiny guests run here; for Linux use npx v2m-testbed -- v2m run …",
    };
  }
  const module = ["kvm_intel", "kvm_amd"].find((m) => existsSync(`/sys/module/${m}`));
  return kind === "hardware"
    ? { name, level: "ok", value: module ?? "built into the kernel" }
    : { name, level: "info", value: "none loaded" };
}

function nestedCheck(): Check {
  const name = "nested virtualization";
  for (const module of ["kvm_intel", "kvm_amd"]) {
    const nested = read(`/sys/module/${module}/parameters/nested`);
    if (nested !== undefined) {
      const on = nested === "Y" || nested === "1";
      return on
        ? { name, level: "ok", value: "on: v2m-testbed can use the hardware" }
        : {
            name,
            level: "info",
            value: "off",
            hint: `echo options ${module} nested=1 | sudo tee /etc/modprobe.d/kvm-nested.conf, then reload ${module}`,
          };
    }
  }
  return { name, level: "info", value: "not offered; v2m-testbed emulates" };
}

/** Extensions that V3M uses: without the first group nothing runs, without the second something is missing. */
const NEEDED: readonly CapName[] = [
  "USER_MEMORY",
  "IRQCHIP",
  "IRQ_ROUTING",
  "EXT_CPUID",
  "MP_STATE",
  "IMMEDIATE_EXIT",
];
const USED: readonly (readonly [CapName, string])[] = [
  ["IRQFD", "interrupts from eventfds"],
  ["IRQFD_RESAMPLE", "level-triggered interrupts from eventfds"],
  ["IOEVENTFD", "doorbells without an exit to user space"],
  ["SIGNAL_MSI", "message-signalled interrupts"],
  ["TSC_DEADLINE_TIMER", "cheap guest timers"],
  ["ADJUST_CLOCK", "pausing guest time (kvmclock)"],
  ["KVMCLOCK_CTRL", "telling the guest's watchdogs of a pause"],
  ["VM_TSC_CONTROL", "TSC frequency of a machine"],
  ["BINARY_STATS_FD", "counters of exits"],
  ["X2APIC_API", "more than 254 vCPUs"],
  ["SYNC_MMU", "giving guest memory back"],
  ["READONLY_MEM", "read-only memory shared by machines"],
  ["MANUAL_DIRTY_LOG_PROTECT2", "dirty tracking"],
  ["DIRTY_LOG_RING", "dirty tracking by ring"],
  ["X86_DISABLE_EXITS", "HLT and PAUSE without exits"],
  ["XSAVE", "saving vCPU state"],
  ["VCPU_EVENTS", "saving pending events"],
  ["SET_GUEST_DEBUG", "debugging guests"],
];

function extensionChecks(kvmPath?: string): Check[] {
  const kvm = Kvm.open(kvmPath);
  try {
    const needed = NEEDED.map((cap): Check => {
      const there = kvm.checkExtension(cap) > 0;
      return {
        name: `KVM_CAP_${cap}`,
        level: there ? "ok" : "missing",
        value: there ? "yes" : "no: machines cannot run",
        ...(there ? {} : { hint: "a newer Linux kernel on this host" }),
      };
    });
    const used = USED.map(([cap, what]): Check => {
      const there = kvm.checkExtension(cap) > 0;
      return {
        name: `KVM_CAP_${cap}`,
        level: there ? "ok" : "warning",
        value: there ? "yes" : `no: ${what}`,
        ...(there ? {} : { hint: "a newer Linux kernel on this host, if you need it" }),
      };
    });
    return [...needed, ...used];
  } finally {
    kvm.close();
  }
}

function hugePageChecks(): Check[] {
  const thp = /\[(\w+)\]/.exec(read("/sys/kernel/mm/transparent_hugepage/enabled") ?? "")?.[1];
  const checks: Check[] = [
    thp === undefined || thp === "never"
      ? {
          name: "transparent huge pages",
          level: "warning",
          value: thp ?? "not in this kernel",
          hint: "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        }
      : { name: "transparent huge pages", level: "ok", value: thp },
  ];
  for (const [label, kib] of [
    ["2 MiB", 2048],
    ["1 GiB", 1048576],
  ] as const) {
    const base = `/sys/kernel/mm/hugepages/hugepages-${kib}kB`;
    const free = Number(read(`${base}/free_hugepages`) ?? 0);
    const hint = existsSync(base)
      ? `to reserve some: echo 512 | sudo tee ${base}/nr_hugepages`
      : "this CPU or kernel has none of that size";
    checks.push({
      name: `huge pages, ${label}`,
      level: free > 0 ? "ok" : "info",
      value: `${free} free of ${read(`${base}/nr_hugepages`) ?? 0}`,
      ...(free > 0 ? {} : { hint }),
    });
  }
  return checks;
}

function iommuCheck(): Check {
  let groups = 0;
  try {
    groups = readdirSync("/sys/kernel/iommu_groups").length;
  } catch {
    // no IOMMU support in this kernel
  }
  const vfio = existsSync("/dev/vfio/vfio");
  return groups > 0
    ? {
        name: "IOMMU",
        level: vfio ? "ok" : "info",
        value: `${groups} groups${vfio ? ", VFIO is loaded" : ", VFIO is not loaded: no device pass-through yet"}`,
        ...(vfio ? {} : { hint: "sudo modprobe vfio-pci" }),
      }
    : {
        name: "IOMMU",
        level: "info",
        value: "none: no device pass-through",
        hint: "switch it on in the firmware's set-up and boot with intel_iommu=on or amd_iommu=on",
      };
}

function emulatorCheck(command: string, name: string, install: string): Check {
  for (const directory of (process.env.PATH ?? "").split(":")) {
    try {
      accessSync(`${directory}/${command}`, constants.X_OK);
      return { name, level: "ok", value: `${command} is there` };
    } catch {
      // look on
    }
  }
  return { name, level: "warning", value: `${command} is missing`, hint: install };
}

function clockCheck(): Check {
  const source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource") ?? "unknown";
  const good = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"].includes(source);
  return {
    name: "clock source",
    level: good ? "ok" : "warning",
    value: source,
    ...(good ? {} : { hint: "timing in guests will be slow and coarse: see dmesg about the TSC" }),
  };
}

function kernelCheck(): Check {
  const release = execFileSync("uname", ["-r"], { encoding: "utf8" }).trim();
  return { name: "Linux kernel", level: "ok", value: release };
}

/** All checks in the order of the report. @param error what opening /dev/kvm said. */
export function allChecks(host: Host, error: string, kvmPath?: string): Check[] {
  return [
    kernelCheck(),
    cpuCheck(host),
    deviceCheck(host, error),
    moduleCheck(host),
    nestedCheck(),
    ...(host.xsave_broken !== 0
      ? [
          {
            name: "XSAVE in guests",
            level: "info",
            value: "hidden: QEMU's TCG does not let it work in nested guests, so no AVX there",
          } as const,
        ]
      : []),
    clockCheck(),
    ...hugePageChecks(),
    iommuCheck(),
    emulatorCheck("qemu-system-x86_64", "nested AMD machine", "sudo apt-get install qemu-system-x86"),
    emulatorCheck("bochs", "nested Intel machine", "sudo apt-get install bochs bochsbios vgabios"),
    ...(host.kvm_status === 0 ? extensionChecks(kvmPath) : []),
  ];
}
