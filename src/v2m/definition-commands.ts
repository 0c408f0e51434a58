// SPDX-License-Identifier: Apache-2.0
/** The verbs on definitions, on the command line. What does the work is loaded when it is asked for. */
import { type Command, Option } from "commander";
import { type Finish, NAMES_HELP, verb } from "./command.js";

/** Add the verbs to the program. @param finish is told the exit code */
export function addDefinitionCommands(program: Command, finish: Finish): void {
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
}
