// SPDX-License-Identifier: Apache-2.0
/** Who takes part, and each one's whole command line: same kernel, initramfs, parameters, RAM, huge pages, CPU features. */
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { hostFacts } from "../../src/vmm/host.js";
import { ADDED_PARAMETERS, COMMAND_LINE, type Guest } from "./guest.js";

export interface Contender {
  readonly id: string;
  readonly label: string;
  /** `qemu`: a machine as Debian's QEMU gives it; `tuned`: with the options that made it fastest here. */
  readonly kind: "library" | "v2m" | "qemu" | "tuned";
  readonly command: readonly string[];
}

export interface GuestSize {
  readonly memoryMiB: number;
}

/** The clock's absence would be polled for 40,000 times. */
const MICROVM = "microvm,rtc=on";
/** Without the legacy timer and interrupt controller, and without looking for virtio devices. */
const TUNED = `${MICROVM},pit=off,pic=off,isa-serial=on,auto-kernel-cmdline=off,x-option-roms=off`;

/** All that KVM offers, less what does not work here: libvmmhpc hides the same. */
function cpuModel(): string {
  return hostFacts().xsave_broken !== 0 ? "host,-xsave" : "host";
}

/** Debian's QEMU with one vCPU, nothing that the guest does not need, and the serial port on standard output. */
export function qemuCommand(
  machine: string,
  guest: { kernel: string; initrd?: string; commandLine?: string; memoryMiB: number },
): string[] {
  return [
    "qemu-system-x86_64",
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-accel", "kvm", "-machine", machine, "-cpu", cpuModel()],
    ...["-smp", "1", "-m", `${guest.memoryMiB}M`, "-serial", "stdio"],
    ...["-kernel", guest.kernel],
    ...(guest.initrd === undefined ? [] : ["-initrd", guest.initrd]),
    ...(guest.commandLine === undefined ? [] : ["-append", guest.commandLine]),
  ];
}

export function commandLine(): string {
  return [COMMAND_LINE, ...ADDED_PARAMETERS].join(" ");
}

export function contenders(guest: Guest, size: GuestSize): Contender[] {
  const root = packageRoot();
  const memory = String(size.memoryMiB);
  const library = join(root, "native/build/release/vmm-run");
  const own = ["-k", "linux", "-m", memory, "-i", guest.initramfs, "-a", commandLine(), guest.vmlinux];
  const run = ["run", "--kernel", guest.bzImage, "--initrd", guest.initramfs, "--memory", `${memory}M`];
  const v2m = [process.execPath, join(root, "dist/src/v2m/main.js"), ...run, "--append", commandLine()];
  const peer = (
    id: string,
    label: string,
    machine: string,
    kernel: string,
    kind: "qemu" | "tuned" = "qemu",
  ) => ({
    id: `qemu-${id}`,
    label: `QEMU ${label}`,
    kind,
    command: qemuCommand(machine, {
      kernel,
      initrd: guest.initramfs,
      commandLine: commandLine(),
      memoryMiB: size.memoryMiB,
    }),
  });
  return [
    { id: "v3m", label: "V3M, library", kind: "library", command: [library, ...own] },
    { id: "v2m", label: "V3M, v2m run", kind: "v2m", command: v2m },
    peer("pc-pvh", "pc, PVH", "pc", guest.vmlinux),
    peer("pc-bzimage", "pc, bzImage", "pc", guest.bzImage),
    peer("microvm-pvh", "microvm, PVH", MICROVM, guest.vmlinux),
    peer("microvm-bzimage", "microvm, bzImage", MICROVM, guest.bzImage),
    peer("microvm-tuned", "microvm tuned, PVH", TUNED, guest.vmlinux, "tuned"),
  ];
}
