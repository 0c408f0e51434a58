// SPDX-License-Identifier: Apache-2.0
/** The verbs on the state of a running VM, on the command line: kept, taken up again, cloned, moved. */
import type { Command } from "commander";
import { common, EXIT_HELP, type Finish, NAMES_HELP, several, verb } from "./command.js";
import type { VerbFlags } from "./verbs.js";

/** Add the verbs to the program. @param finish is told the exit code */
export function addStateCommands(program: Command, finish: Finish): void {
  for (const [name, description, where] of [
    ["snapshot", "Keep the state of a VM in a directory.", "to keep it in"],
    ["restore", "Start a VM in the state that a snapshot has kept.", "that holds it"],
  ] as const) {
    const command = verb(program, {
      name,
      description,
      help: EXIT_HELP,
      examples: [`v2m ${name} node1 /var/tmp/node1.snapshot`],
      operands: "vms",
    });
    common(command.argument("<name>", "VM").argument("<directory>", where)).action(
      async (vm: string, directory: string, flags: VerbFlags) => {
        const verbs = await import("./verbs.js");
        finish(await verbs[name](vm, directory, flags));
      },
    );
  }
  const fork = verb(program, {
    name: "fork",
    description: "Clone a running VM.",
    help: EXIT_HELP,
    examples: ["v2m fork node1 8"],
    operands: "vms",
  });
  common(fork.argument("<name>", "VM").argument("[count]", "clones (default: 1)")).action(
    async (vm: string, count: string | undefined, flags: VerbFlags) => {
      const verbs = await import("./verbs.js");
      finish(await verbs.fork(vm, count, flags));
    },
  );
  const migrate = verb(program, {
    name: "migrate",
    description: "Move running VMs to another host.",
    help: NAMES_HELP + EXIT_HELP,
    examples: ["v2m migrate node1 --to host2 --live"],
    operands: "vms",
  });
  several(
    migrate
      .argument("<name...>", "VMs")
      .requiredOption("--to <host>", "where to")
      .option("--live", "while they run"),
  ).action(async (names: string[], flags: VerbFlags & { readonly to: string }) => {
    const verbs = await import("./verbs.js");
    finish(await verbs.migrate(names, flags.to, flags));
  });
}
