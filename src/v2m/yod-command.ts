// SPDX-License-Identifier: Apache-2.0
/** The command line of `v2m yod`. */
import { type Command, Option } from "commander";
import { addGdbOptions } from "./gdb-options.js";
import type { YodFlags } from "./yod-options.js";

const DEFAULT_MEMORY = "256M";

const HELP = `
Standard streams, exit code, signals and environment are as for a local command. The
application sees no file but those beneath its roots: the directories given by --root,
or, without any, the current directory and the application's own, read-only.

Exit codes:
  the application's; 128 + n where signal n ended it (a crash is reported), or
  124  --timeout elapsed
  125  v2m, this host or the kernel failed, or an option is wrong
  126  the application cannot be executed (not static, not x86-64, not executable)
  127  the application was not found

Examples:
  v2m yod ./app -n 100 input.dat
  v2m yod --cpus 4 --memory 2G --env OMP_NUM_THREADS=4 --stats ./heat
  v2m yod --root .:rw --root /data ./convert /data/in.bin out.bin
  v2m yod --ranks 4 --prefix ./rank            V3M_RANK and V3M_RANKS in the environment
  v2m yod --ranks 4 --channel-size 64M ./rank  areas of 64 MiB in /dev/v3m-shm
`;

const collect = (value: string, before: readonly string[] = []) => [...before, value];

/** Add the command. @param finish is told its exit code */
export function addYodCommand(program: Command, finish: (code: number) => void): void {
  const command = program
    .command("yod")
    .description("Run a static program on the lightweight kernel, in a VM of its own.")
    .usage("[options] APP [ARGS...]")
    .argument("<app>", "statically linked program; a name without a slash is looked for in PATH")
    .argument("[args...]", "its arguments")
    .passThroughOptions()
    .option("--cpus <n>", "vCPUs (of each rank)", "1")
    .option("--memory <size>", "RAM (of each rank): 512M, 2G; a plain number is MiB", DEFAULT_MEMORY)
    .addOption(
      new Option("--hugepages <size>", "pages behind guest RAM")
        .choices(["thp", "none", "2M", "1G", "memfd"])
        .default("thp"),
    )
    .option("--prefault", "touch all of RAM before the start")
    .option("--numa-node <n>", "host NUMA node to take RAM from")
    .option("--pin <cpus>", "host CPUs for the vCPU threads: 2,3 or 0-3")
    .option("--root <dir[:rw]>", "a directory that the application sees; repeatable", collect)
    .option("--env <name[=value]>", "set a variable, or pass the caller's; repeatable", collect)
    .option("--clear-env", "do not pass the caller's environment")
    .option("--timeout <time>", "SIGTERM after this long: seconds, or 500ms, 10m (exit code 124)")
    .option("--ranks <n>", "so many VMs, V3M_RANK and V3M_RANKS in their environment")
    .option(
      "--channel-size <size>",
      "with --ranks: what each writes for the others (default 16M); 0: no channel",
    )
    .option("--prefix", "with --ranks: output line by line, each after its rank")
    .option("--stats", "report times, exits and system calls at the end, on standard error")
    .option("--json", "report the end (or the error) as one line of JSON on standard error")
    .addOption(new Option("--console", "show the kernel's own messages on standard error").hideHelp())
    .option("--kvm <device>", "instead of /dev/kvm")
    .addHelpText("after", HELP)
    .action(async (app: string, args: string[], flags: YodFlags) => {
      const { yod } = await import("./yod.js");
      finish(await yod(app, args, flags));
    });
  addGdbOptions(command);
}
