// SPDX-License-Identifier: Apache-2.0
/** The verbs on VMs, on the command line. What does the work is loaded when it is asked for. */
import { type Command, Option } from "commander";
import type { VerbFlags } from "./verbs.js";

type Finish = (code: number) => void;

const NAMES_HELP = `
NAME may be a range, as in vm[0-7] or node[01-16,20], or a pattern with * and ? (quote it).`;

const EXIT_HELP = `
Exit codes: 0 done; 2 wrong option, name or definition; 4 the back end cannot do it (v2m capabilities);
8 no such VM; 9 its state does not allow it; 10 another command is at work on it; 1, 5, 6, 11 it failed.
With several VMs: that of the first that failed; the others are done.
`;

const collect = (value: string, before: readonly string[] = []) => [...before, value];

interface Spec {
  readonly name: string;
  readonly description: string;
  readonly examples: readonly string[];
  /** More for --help, in front of the examples. */
  readonly help?: string;
  /** What the arguments are, for completion. */
  readonly operands?: Operands;
}

/** What stands behind a verb: names of VMs, files, types of back ends. */
export type Operands = "vms" | "files" | "types";

const operands = new WeakMap<Command, Operands>();

export function operandsOf(command: Command): Operands | undefined {
  return operands.get(command);
}

/** The option that all have is added last, so that it stands at the end of the help. */
function verb(program: Command, spec: Spec): Command {
  const { name, description, examples, help = "" } = spec;
  const command = program
    .command(name)
    .description(description)
    .addHelpText("after", `${help}\nExamples:\n${examples.map((line) => `  ${line}\n`).join("")}`);
  if (spec.operands !== undefined) operands.set(command, spec.operands);
  return command;
}

function common(command: Command): Command {
  return command
    .option("--json", "as JSON")
    .option("--wait <time>", "for another command on the same VM: seconds, or 500ms, 1m (default: 10)");
}

function several(command: Command): Command {
  return common(command).option("--parallel <n>", "VMs at once (default: twice the CPUs, 4 to 32)");
}

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

function addChanging(program: Command, finish: Finish): void {
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

function addStateVerbs(program: Command, finish: Finish): void {
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

function addDefinitions(program: Command, finish: Finish): void {
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

  const validate = verb(program, {
    name: "validate",
    description: "Check definitions and say all that is wrong in them, with lines.",
    examples: ["v2m validate node1.yaml", "v2m validate profile.xml --json"],
    operands: "files",
  });
  validate
    .argument("<file...>", "definitions")
    .option("--json", "as JSON")
    .action(async (files: string[], flags) => {
      const module = await import("./define.js");
      finish(await module.validate(files, flags));
    });

  const convert = verb(program, {
    name: "convert",
    description: "Convert a 2007 profile to YAML or JSON, and back where it can be said there.",
    help: "\nRelative paths stay right where the output is in another directory.",
    examples: ["v2m convert profile.xml -o vm.yaml", "v2m convert vm.yaml --to xml"],
    operands: "files",
  });
  convert
    .argument("<file>", "definition")
    .option("-o, --output <file>", "a new file (default: standard output)")
    .addOption(new Option("--to <form>", "default: by the output's name").choices(["yaml", "json", "xml"]))
    .option("--json", "report as JSON, with -o")
    .action(async (file: string, flags) => {
      const module = await import("./define.js");
      finish(await module.convert(file, flags));
    });

  const schema = verb(program, {
    name: "schema",
    description: "Print the JSON Schema of definitions.",
    examples: ["v2m schema > vm-definition.schema.json"],
  });
  schema.option("--json", "the same").action(async () => {
    const module = await import("./define.js");
    finish(await module.schema());
  });

  const show = verb(program, {
    name: "show",
    description: "Print the definitions of VMs, with all defaults.",
    help: NAMES_HELP,
    examples: ["v2m show node1", "v2m show node1 --json | jq '.[].nics'"],
    operands: "vms",
  });
  show
    .argument("<name...>", "VMs")
    .option("--json", "as JSON")
    .action(async (names: string[], flags) => {
      const module = await import("./define.js");
      finish(await module.show(names, flags));
    });

  const image = verb(program, {
    name: "image",
    description: "Make a disk image: empty, or with a system installed in it.",
    help: EXIT_HELP,
    examples: [
      "v2m image disk.img --size 10G",
      "v2m image disk.qcow2 --size 10G --format qcow2 --type Qemu",
      "v2m image disk.img --size 10G --from-cdrom install.iso --machine vm.yaml",
    ],
    operands: "files",
  });
  common(
    image
      .argument("<file>", "image to make; must not exist")
      .requiredOption("--size <size>", "512M, 10G; a plain number is MiB")
      .addOption(new Option("--format <format>", "of the image").choices(["raw", "qcow2"]).default("raw"))
      .option("--type <type>", "back end that makes it (default: the machine's, else VMM-HPC)")
      .option("--from-cdrom <iso>", "install from a CD-ROM")
      .option("--from-packages <set>", "install a set of packages")
      .option("--machine <file>", "definition of the machine in which the installation runs"),
  ).action(async (file: string, flags) => {
    const module = await import("./image.js");
    finish(await module.image(file, flags));
  });
}

function addLooking(program: Command, finish: Finish): void {
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

/** Add all verbs on VMs. @param finish is told the exit code */
export function addManageCommands(program: Command, finish: Finish): void {
  addDefinitions(program, finish);
  addChanging(program, finish);
  addStateVerbs(program, finish);
  addLooking(program, finish);
}
