// SPDX-License-Identifier: Apache-2.0
/** The monitors: same kernel, initramfs, command line, RAM, disks and tap device, the same back ends. */
import { spawn } from "node:child_process";
import { debianDisk } from "../../harness/disk-image.js";
import { guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";
import { ShellGuest } from "../../src/measure/shell-guest.js";
import { hostFacts } from "../../src/vmm/host.js";
import { Machine, unpackKernel } from "../../src/vmm/index.js";
import { kvmCounters } from "../boot/observe.js";

export const MEMORY_MIB = 256;
export const COMMAND_LINE = "console=ttyS0 quiet";
export const TAP = "v3mbench0";
export const MAC = "52:54:00:56:33:4d";
const MODULES = ["virtio_blk", "virtio_net", "ext4"];

export interface Files {
  readonly version: string;
  readonly vmlinux: string;
  readonly initramfs: string;
  /** Debian with fio, iperf3 and sockperf; read only. */
  readonly tools: string;
}

/** The disk that fio works on. */
export interface Scratch {
  readonly path: string;
  /** Past the page cache, where the file system can do that. */
  readonly direct: boolean;
}

export async function prepareFiles(log: (message: string) => void): Promise<Files> {
  const kernel = await ensureKernel("cloud");
  return {
    version: kernel.version,
    vmlinux: await unpackKernel(kernel.bzImage),
    initramfs: await guestInitramfs({ modules: MODULES }),
    tools: (await debianDisk({ log })).path,
  };
}

/** A booted guest. */
export interface Running extends AsyncDisposable {
  readonly guest: ShellGuest;
  /** Guest-caused exits so far. */
  exits(): number;
}

export interface Contender {
  readonly id: "v3m" | "qemu";
  readonly label: string;
  boot(files: Files, scratch: Scratch): Promise<Running>;
}

function exitsOf(pid: number): number {
  const counters = kvmCounters(pid);
  if (counters === null) throw new Error("KVM's counters in debugfs cannot be read");
  return counters.guest;
}

const v3m: Contender = {
  id: "v3m",
  label: "V3M",
  async boot(files, scratch) {
    const machine = await Machine.create({
      kernel: files.vmlinux,
      initrd: files.initramfs,
      cmdline: COMMAND_LINE,
      memory: MEMORY_MIB << 20,
      disks: [{ path: files.tools, readOnly: true }, scratch],
      nets: [{ kind: "tap", name: TAP, mac: MAC }],
    });
    const guest = new ShellGuest(machine.console, machine.console);
    machine.start();
    return {
      guest,
      exits: () => exitsOf(process.pid),
      [Symbol.asyncDispose]: () => machine.dispose(),
    };
  },
};

function qemuArguments(files: Files, scratch: Scratch): string[] {
  const aio = "aio=io_uring,format=raw,if=none";
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", "kvm"],
    ...["-machine", "pc", "-cpu", hostFacts().xsave_broken !== 0 ? "host,-xsave" : "host"],
    ...["-smp", "1", "-m", `${MEMORY_MIB}M`, "-serial", "stdio"],
    ...["-kernel", files.vmlinux, "-initrd", files.initramfs, "-append", COMMAND_LINE],
    ...["-drive", `file=${files.tools},id=a,readonly=on,${aio}`],
    ...["-drive", `file=${scratch.path},id=b,cache.direct=${scratch.direct ? "on" : "off"},${aio}`],
    ...["-device", "virtio-blk-pci,drive=a,disable-legacy=on,num-queues=1"],
    ...["-device", "virtio-blk-pci,drive=b,disable-legacy=on,num-queues=1"],
    ...["-netdev", `tap,id=n,ifname=${TAP},script=no,downscript=no,vhost=off`],
    ...["-device", `virtio-net-pci,netdev=n,mac=${MAC},disable-legacy=on,romfile=`],
  ];
}

const qemu: Contender = {
  id: "qemu",
  label: "QEMU pc",
  boot(files, scratch) {
    const child = spawn("qemu-system-x86_64", qemuArguments(files, scratch), {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = new Promise<void>((resolve) => {
      child.once("close", () => resolve());
      child.once("error", () => resolve());
    });
    return Promise.resolve({
      guest: new ShellGuest(child.stdin, child.stdout),
      exits: () => exitsOf(child.pid ?? 0),
      async [Symbol.asyncDispose]() {
        child.kill("SIGKILL");
        await ended;
      },
    });
  },
};

export const contenders: readonly Contender[] = [v3m, qemu];
