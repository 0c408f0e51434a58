// SPDX-License-Identifier: Apache-2.0
/** The verbs `run` and `doctor` on the command line. */
import { type Command, Option } from "commander";
import { addDeviceOptions, DEVICE_EXAMPLES, DEVICE_HELP } from "./device-options.js";
import { addGdbOptions } from "./gdb-options.js";
import { addModuleOptions, MODULE_HELP } from "./module-options.js";
import type { RunFlags } from "./run-options.js";

const RUN_HELP = `${DEVICE_HELP}${MODULE_HELP}
The guest's console is standard input and output. On a terminal, Ctrl-A is the escape
key: Ctrl-A x stops the machine, Ctrl-A h lists the rest; Ctrl-C goes to the guest.

Exit codes:
    0  the guest powered off (or was stopped by the escape key)
    1  v2m itself failed                  2  wrong option or value
    3  the guest crashed                  4  this host cannot run it (see v2m doctor)
    5  kernel or initrd cannot be loaded  6  not enough memory, too many vCPUs
    7  the guest reset, with --no-reboot
  124  --timeout elapsed                141  standard output was closed
  129, 130, 143  ended by SIGHUP, SIGINT, SIGTERM

Examples:
  v2m run --kernel vmlinuz --initrd initrd.cpio --append console=ttyS0
  v2m run --kernel vmlinuz --cpus 4 --pin 2-5 --memory 2G --hugepages 2M --stats
  v2m run --kernel payload.bin --kind flat64 --load-address 0x100000 --timeout 10
${DEVICE_EXAMPLES}`;

const DOCTOR_HELP = `
Exit codes: 0 Linux guests run on this host's KVM; 4 only in the nested machine, or not yet.

Examples:
  v2m doctor
  v2m doctor --json | jq '.checks[] | select(.level != "ok")'
`;

/** @param finish is told the exit code of the verb. */
export function addHostCommands(program: Command, finish: (code: number) => void): void {
  const run = program
    .command("run")
    .description("Run a machine in the foreground, its console on this terminal.")
    .option("--kernel <file>", "bzImage, vmlinux, PVH ELF, multiboot or flat image (default: the disk's own)")
    .option("--initrd <file>", "initial RAM file system")
    .option("--append <text>", "kernel command line")
    .option("--memory <size>", "RAM: 512M, 2G; a plain number is MiB (default: 128M, from a disk 512M)")
    .option("--cpus <n>", "vCPUs", "1")
    .option("--cores <n>", "cores per socket shown to the guest (default: all in one)")
    .option("--threads <n>", "threads per core shown to the guest (default: 1)")
    .option("--pin <cpus>", "host CPUs for the vCPU threads: 2,3 or 0-3")
    .addOption(
      new Option("--hugepages [size]", "pages behind guest RAM; without a size: 2M")
        .choices(["thp", "none", "2M", "1G", "memfd"])
        .default("thp"),
    )
    .option("--prefault", "touch all of RAM before the start")
    .option("--numa-node <n>", "host NUMA node to take RAM from")
    .addOption(
      new Option("--kind <kind>", "what the kernel file is")
        .choices(["auto", "bzimage", "linux", "pvh", "multiboot", "flat16", "flat64"])
        .default("auto"),
    )
    .option("--load-address <gpa>", "flat images: where to load and enter")
    .option("--no-unpack", "let the guest decompress its bzImage by itself")
    .option("--no-reboot", "stop when the guest resets (exit code 7)")
    .option("--stats", "report times, exits and memory at the end, on standard error")
    .option("--ready <text>", "report when the console shows this text")
    .option("--timeout <time>", "stop after this long: seconds, or 500ms, 10m (exit code 124)")
    .option("--kvm <device>", "instead of /dev/kvm")
    .option("--json", "report the end (or the error) as one line of JSON on standard error")
    .addHelpText("after", RUN_HELP)
    .action(async (flags: RunFlags) => {
      const { run } = await import("./run.js");
      finish(await run(flags));
    });
  addDeviceOptions(run);
  addGdbOptions(run);
  addModuleOptions(run);

  program
    .command("doctor")
    .description("What this host offers, what is missing, and how to mend it.")
    .option("--json", "as JSON")
    .option("--kvm <device>", "instead of /dev/kvm")
    .addHelpText("after", DOCTOR_HELP)
    .action(async (options: { json?: boolean; kvm?: string }) => {
      const { doctor } = await import("./doctor.js");
      finish(doctor(options));
    });
}
