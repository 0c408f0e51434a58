// SPDX-License-Identifier: Apache-2.0
/** The verbs on the state of a running VM, on the command line: kept, taken up again, cloned, moved. */
import type { Command } from "commander";
import { common, EXIT_HELP, type Finish, NAMES_HELP, several, verb } from "./command.js";
import type { ForkFlags } from "./fork.js";
import type { SnapshotFlags } from "./snapshot.js";
import type { VerbFlags } from "./verbs.js";

const SNAPSHOT_HELP = `
A snapshot has memory, vCPUs and devices of a VM, and copies of the disks that it writes to, all of one moment.
The VM is paused meanwhile, and goes on. Snapshots belong to the VM and go with it (undefine).`;

const RESTORE_HELP = `
The VM's disks become those of the snapshot: what was written to them since is lost.`;

const FORK_HELP = `
A clone is a VM of its own, with its name, MAC addresses, VM generation ID, and disks over the first one's as they
were. The guest has to take them up: docs/how-to/fork-a-vm.md. All clones are made, or none.`;

/** Add the verbs to the program. @param finish is told the exit code */
export function addStateCommands(program: Command, finish: Finish): void {
  const snapshot = verb(program, {
    name: "snapshot",
    description: "Keep the state of VMs, and look after what was kept.",
    help: SNAPSHOT_HELP + EXIT_HELP,
    examples: [
      "v2m snapshot create node1 before-upgrade",
      "v2m snapshot create node1 hourly-2 --base hourly-1",
      "v2m snapshot create node1 archive --compress",
      "v2m snapshot list",
      "v2m snapshot verify node1 before-upgrade",
    ],
    operands: "vms",
  });
  common(
    snapshot
      .argument("<action>", "create, list, show, delete or verify")
      .argument("[vm]", "VM; list: default all")
      .argument("[snapshot]", "name of the snapshot; create: default s1, s2 …")
      .option("--base <snapshot>", "create: write only the memory that differs from this one's")
      .option("--compress", "create: compress the memory; restoring takes longer then"),
  ).action(async (action: string, vm: string | undefined, name: string | undefined, flags: SnapshotFlags) => {
    const { snapshot } = await import("./snapshot.js");
    finish(await snapshot(action, vm, name, flags));
  });
  const restore = verb(program, {
    name: "restore",
    description: "Start a VM in the state that a snapshot has kept.",
    help: RESTORE_HELP + EXIT_HELP,
    examples: ["v2m restore node1 before-upgrade"],
    operands: "vms",
  });
  common(restore.argument("<vm>", "VM, which does not run").argument("<snapshot>", "its snapshot")).action(
    async (vm: string, name: string, flags: VerbFlags) => {
      const { restore } = await import("./snapshot.js");
      finish(await restore(vm, name, flags));
    },
  );
  const fork = verb(program, {
    name: "fork",
    description:
      "Clone a running VM: the clones run on from where it is, and share its memory until they write.",
    help: FORK_HELP + EXIT_HELP,
    examples: ["v2m fork node1 8", "v2m fork node1 --name 'node[2-9]'"],
    operands: "vms",
  });
  common(
    fork
      .argument("<name>", "VM, running or paused")
      .argument("[count]", "clones (default: 1, or as many as --name has)")
      .option("--name <names>", "names of the clones, as in node[2-9] (default: NAME-1, NAME-2 …)"),
  ).action(async (vm: string, count: string | undefined, flags: ForkFlags) => {
    const { fork } = await import("./fork.js");
    finish(await fork(vm, count, flags));
  });
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
