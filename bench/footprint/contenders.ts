// SPDX-License-Identifier: Apache-2.0
/** Who takes part, and how each starts a guest whose console is its standard output. */
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { monitorStatus } from "../../src/vmm/index.js";
import { qemuCommand } from "../boot/contenders.js";
import type { Guest } from "./guests.js";

export interface Contender {
  readonly id: string;
  readonly label: string;
  readonly own: boolean;
  /** @param directory of this machine alone, for whoever needs one */
  command(guest: Guest, directory: string): string[];
  /** The process that runs the machine. @param started the one that was started */
  process(started: number, directory: string): number;
}

const release = (name: string) => join(packageRoot(), "native/build/release", name);

/** A monitor in its jail, by the smallest starter, which hands on what the console says. */
export const V3M: Contender = {
  id: "v3m",
  label: "V3M, monitor",
  own: true,
  command: (guest, directory) => [
    release("vmm-run"),
    ...["-d", directory, "-o", "-M", release("vmm-hpc")],
    ...guest.load,
    ...["-m", String(guest.memoryMiB)],
    ...(guest.initrd === undefined ? [] : ["-i", guest.initrd]),
    ...(guest.commandLine === undefined ? [] : ["-a", guest.commandLine]),
    guest.kernel,
  ],
  process: (_started, directory) => monitorStatus(directory).pid,
};

function qemu(id: string, label: string, machine: string): Contender {
  return {
    id,
    label: `QEMU ${label}`,
    own: false,
    command: (guest) => qemuCommand(machine, guest),
    process: (started) => started,
  };
}

/** By PVH all of them: the Linux guest has its note, and so has the lightweight kernel. */
export const PEERS: readonly Contender[] = [
  qemu("qemu-pc", "pc, PVH", "pc"),
  qemu("qemu-microvm", "microvm,rtc=on, PVH", "microvm,rtc=on"),
];
