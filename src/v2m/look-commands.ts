// SPDX-License-Identifier: Apache-2.0
/** The verbs that look at VMs, on the command line. What does the work is loaded when it is asked for. */
import type { Command } from "commander";
import { collect, common, type Finish, NAMES_HELP, verb } from "./command.js";

/** Add the verbs to the program. @param finish is told the exit code */
export function addLookCommands(program: Command, finish: Finish): void {
  const list = verb(program, {
    name: "list",
    description: "List VMs and their states.",
    help: NAMES_HELP,
    examples: ["v2m list", "v2m list 'vm*' --state running", "v2m list --json | jq -r '.[].name'"],
    operands: "vms",
  });
  list
    .argument("[name...]", "VMs (default: all)")
    .option("--state <state>", "only those in this state; repeatable", collect)
    .option("--names", "only the names")
    .option("--json", "as JSON")
    .action(async (names: string[], flags) => {
      const module = await import("./list.js");
      finish(await module.list(names, flags));
    });

  const status = verb(program, {
    name: "status",
    description: "What is known of VMs; the back end is asked.",
    help: NAMES_HELP,
    examples: ["v2m status node1", "v2m status 'vm[0-7]' --json"],
    operands: "vms",
  });
  common(status.argument("<name...>", "VMs")).action(async (names: string[], flags) => {
    const module = await import("./list.js");
    finish(await module.status(names, flags));
  });

  const console = verb(program, {
    name: "console",
    description: "Attach to the console of a VM, with what it has said so far.",
    help: `
Ctrl-A is the escape key: Ctrl-A d detaches and leaves the VM running, Ctrl-A h lists the rest.
Without a terminal every byte of standard input is the guest's.`,
    examples: ["v2m console node1", "v2m console node1 --idle 1s < /dev/null    what it has said so far"],
    operands: "vms",
  });
  common(
    console
      .argument("<name>", "VM")
      .option("--idle <time>", "detach when nothing was said for so long: seconds, or 500ms, 1m"),
  ).action(async (name: string, flags) => {
    const module = await import("./console.js");
    finish(await module.attachConsole(name, flags));
  });

  const stats = verb(program, {
    name: "stats",
    description: "What running VMs use.",
    help: NAMES_HELP,
    examples: ["v2m stats", "v2m stats 'vm*' --watch 1", "v2m stats node1 --all"],
    operands: "vms",
  });
  common(
    stats
      .argument("[name...]", "VMs (default: all that run)")
      .option("--watch [time]", "again and again, like top (default: every 2 s)")
      .option("--count <n>", "with --watch: so many times")
      .option("--all", "every counter that the back end has"),
  ).action(async (names: string[], flags) => {
    const module = await import("./stats.js");
    finish(await module.stats(names, flags));
  });

  const events = verb(program, {
    name: "events",
    description: "What happens to VMs, as it happens, whoever causes it.",
    help: NAMES_HELP,
    examples: ["v2m events", "v2m events node1 --past", "v2m events --no-follow --json"],
    operands: "vms",
  });
  common(
    events
      .argument("[name...]", "VMs (default: all, also those to come)")
      .option("--past", "first what is kept")
      .option("--no-follow", "only what is kept"),
  ).action(async (names: string[], flags) => {
    const module = await import("./events.js");
    finish(await module.events(names, flags));
  });

  const capabilities = verb(program, {
    name: "capabilities",
    description: "What each back end can do on this host.",
    examples: ["v2m capabilities", "v2m capabilities Qemu Kvm --reasons"],
    operands: "types",
  });
  capabilities
    .argument("[type...]", "back ends (default: all)")
    .option("--reasons", "why not")
    .option("--json", "as JSON")
    .action(async (types: string[], flags) => {
      const module = await import("./capabilities.js");
      finish(await module.capabilities(types, flags));
    });
}
