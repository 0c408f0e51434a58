// SPDX-License-Identifier: Apache-2.0
/** The verbs of a VM's life, on the command line. What does the work is loaded when it is asked for. */
import type { Command } from "commander";
import { common, EXIT_HELP, type Finish, NAMES_HELP, several, verb } from "./command.js";
import type { VerbFlags } from "./verbs.js";

/** Verbs whose arguments are names alone. */
const SIMPLE = [
  {
    name: "start",
    description: "Start VMs.",
    examples: ["v2m start node1", "v2m start 'vm[0-7]' --parallel 4"],
  },
  {
    name: "reset",
    description: "Reset VMs, as their reset button would.",
    examples: ["v2m reset node1"],
  },
  {
    name: "pause",
    description: "Stop the time of VMs.",
    examples: ["v2m pause node1", "v2m pause 'vm*' --json"],
  },
  {
    name: "resume",
    description: "Let paused VMs go on.",
    examples: ["v2m resume node1", "v2m resume 'vm[0-3]'"],
  },
  {
    name: "undefine",
    description: "Forget VMs that are not running; their images stay.",
    examples: ["v2m undefine node1", "v2m undefine 'test-*'"],
  },
] as const;

/** Add the verbs to the program. @param finish is told the exit code */
export function addLifeCommands(program: Command, finish: Finish): void {
  const define = verb(program, {
    name: "define",
    description: "Make VMs known by their definitions; nothing is started.",
    help: "\nA definition is YAML, JSON, or a profile of 2007 in XML: docs/reference/definition.md.",
    examples: ["v2m define node1.yaml", "v2m define --replace node*.yaml"],
    operands: "files",
  });
  common(
    define.argument("<file...>", "definitions").option("--replace", "also where a VM of that name is known"),
  ).action(async (files: string[], flags) => {
    const module = await import("./define.js");
    finish(await module.define(files, flags));
  });

  for (const spec of SIMPLE) {
    const command = verb(program, { ...spec, help: NAMES_HELP + EXIT_HELP, operands: "vms" });
    several(command.argument("<name...>", "VMs")).action(async (names: string[], flags: VerbFlags) => {
      const { simpleVerb } = await import("./verbs.js");
      finish(await simpleVerb(spec.name, names, flags));
    });
  }
  const stop = verb(program, {
    name: "stop",
    description: "Ask VMs to power off, and stop them by force when their stop timeout has passed.",
    help: NAMES_HELP + EXIT_HELP,
    examples: ["v2m stop node1", "v2m stop 'vm[0-7]' --force"],
    operands: "vms",
  });
  several(stop.argument("<name...>", "VMs").option("--force", "at once, without asking")).action(
    async (names: string[], flags: VerbFlags) => {
      const verbs = await import("./verbs.js");
      finish(await verbs.stop(names, flags));
    },
  );
}
