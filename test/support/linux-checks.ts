// SPDX-License-Identifier: Apache-2.0
/** What a Linux guest says about itself: topology, kernel log, clock. */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Entry } from "../../harness/initramfs.js";
import { findTool, runTool } from "../../harness/testbed.js";
import type { LinuxGuest } from "./linux.js";
import { SLOW } from "./machines.js";
import { currentPlace } from "./places.js";

/** The dynamic linker of x86-64; started as a program it lists what another one needs. */
const LINKER = "/lib64/ld-linux-x86-64.so.2";

/** This host's lscpu with its libraries, for an initramfs. */
export const lscpuFiles = (): Promise<Entry[]> => toolFiles("lscpu", "util-linux");

/** A program of this host's with its libraries, for an initramfs. @param debian the package that has it */
export async function toolFiles(name: string, debian: string): Promise<Entry[]> {
  const program = await findTool(name);
  if (program === undefined) {
    throw new Error(`${name} is not installed: apt-get install ${debian}`);
  }
  const listed = await runTool(LINKER, ["--list", program]);
  const libraries = listed.stdout
    .toString()
    .split("\n")
    .flatMap((line) => /(?:=>\s*)?(\/\S+)\s+\(0x/.exec(line)?.[1] ?? []);
  const paths = [...new Set([LINKER, ...libraries])];
  const files = [[`bin/${name}`, program], ...paths.map((path) => [path.slice(1), path])];
  return Promise.all(
    files.map(
      async ([path, from]): Promise<Entry> => ({
        type: "file",
        path: path ?? "",
        data: await readFile(from ?? ""),
        mode: 0o755,
      }),
    ),
  );
}

export interface Topology {
  readonly cpus: number;
  readonly threadsPerCore: number;
  readonly coresPerSocket: number;
  readonly sockets: number;
}

/** By util-linux's lscpu in the guest. */
export async function lscpu(guest: LinuxGuest): Promise<Topology> {
  const text = await guest.sh("LC_ALL=C lscpu");
  const field = (name: string) => {
    const value = new RegExp(`^\\s*${name.replace(/[()]/g, "\\$&")}:\\s*(\\d+)`, "m").exec(text)?.[1];
    if (value === undefined) {
      throw new Error(`lscpu says nothing of ${name}:\n${text}`);
    }
    return Number(value);
  };
  return {
    cpus: field("CPU(s)"),
    threadsPerCore: field("Thread(s) per core"),
    coresPerSocket: field("Core(s) per socket"),
    sockets: field("Socket(s)"),
  };
}

/** By the kernel itself: of each CPU its package, core, and the CPUs of its core. */
export async function sysfsTopology(
  guest: LinuxGuest,
): Promise<{ package: number; core: number; siblings: string }[]> {
  const names = ["physical_package_id", "core_id", "core_cpus_list"]
    .map((name) => `topology/${name}`)
    .join(" ");
  const text = await guest.sh(
    `cd /sys/devices/system/cpu; for c in $(ls -d cpu[0-9]*); do cd $c; echo $(cat ${names}); cd ..; done; cd /`,
  );
  return text.split("\n").map((line) => {
    const [pack, core, siblings] = line.split(" ");
    return { package: Number(pack), core: Number(core), siblings: siblings ?? "" };
  });
}

/** Warnings of the kernel about the parts that the machine is made of. */
const ABOUT_THE_MACHINE = /acpi|apic|clock|tsc|timer|rtc|hpet|firmware|bios|smpboot|topology|microcode|msr/i;
/** However loud they are. */
const ALWAYS = /\[Firmware (Bug|Warn)|BIOS (bug|error)|unstable|unchecked MSR|WARNING:|BUG:/i;

/** Whoever adds a line here explains why the machine should not be changed instead. */
const ALLOWED: readonly { readonly message: RegExp; readonly when: () => boolean }[] = [
  {
    // With several AMD CPUs that don't promise an invariant TSC, Linux assumes the worst without looking. A guest
    // is promised what its host is: QEMU's emulated CPU does not promise it.
    message: /tsc: Marking TSC unstable due to TSCs unsynchronized/,
    when: () => !/^flags\s*:.* constant_tsc\b/m.test(readFileSync("/proc/cpuinfo", "utf8")),
  },
  {
    // The vCPU was off its host CPU for over a second between two readings: the computer is busy, the clocks agree.
    message: /clocksource: (Long readout interval, skipping watchdog check|.*wd-\S+-wd read-back delay)/,
    when: () => SLOW,
  },
  {
    // A handler of a timer took long: true of every emulated CPU that shares its computer with others.
    message: /hrtimer: interrupt took \d+ ns/,
    when: () => ["amd", "intel"].includes(currentPlace()),
  },
];

/** Lines of the kernel's log that should not be there: warnings (and worse) about the machine. */
export async function suspiciousMessages(guest: LinuxGuest): Promise<string[]> {
  // Sorted out in the guest first: the console is slow.
  const { output } = await guest.run(
    `dmesg -r | grep -iE '^<[0-4]>|${ALWAYS.source.replaceAll("\\[", "[[]")}'`,
  );
  const lines = output.split("\n");
  return lines.filter((line) => {
    const level = Number(/^<(\d+)>/.exec(line)?.[1] ?? 6) & 7;
    const suspicious = (level <= 4 && ABOUT_THE_MACHINE.test(line)) || ALWAYS.test(line);
    return suspicious && !ALLOWED.some(({ message, when }) => message.test(line) && when());
  });
}

export function clockSource(guest: LinuxGuest): Promise<string> {
  return guest.sh("cat /sys/devices/system/clocksource/clocksource0/current_clocksource");
}
