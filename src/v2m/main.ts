#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
/** The v2m command: reads the command line, runs a verb, turns its outcome into an exit code. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { packageRoot } from "../package-root.js";
import { Exit, exitCodeOf } from "./exit-codes.js";
import { groupsFor, VERBS } from "./groups.js";
import { profileCommand } from "./profile-options.js";
import { errorJson, formatError } from "./report.js";

const PROGRAM_HELP = `
With a profile of 2007:
  v2m profile.xml --boot-vm | --create-vm-image-from-cdrom | --install-vm-with-oscar[=SET] |
                  --migrate-vm NODE | --pause-vm | --unpause-vm | --status | --validate-profile

Environment: V3M_STATE_DIR, V3M_RUNTIME_DIR: where the state of VMs and their sockets are;
V3M_BACKENDS: modules of more back ends, absolute paths with colons between them.

Examples:
  v2m doctor                                  what this host can do
  v2m run --kernel vmlinuz --append console=ttyS0   boot a kernel in the foreground
  v2m define node1.yaml && v2m start node1    a VM that outlives its command
  v2m yod ./app input.dat                     run a static program on the lightweight kernel
`;

function version(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string })
    .version;
}

/** @param words the command line. @param finish is told the exit code of the verb. */
async function buildProgram(words: readonly string[], finish: (code: number) => void): Promise<Command> {
  const program = new Command("v2m")
    .description("Run and manage virtual machines for HPC.")
    .version(version())
    .showSuggestionAfterError()
    .enablePositionalOptions() // what stands behind the application of yod is the application's
    .configureHelp({ showGlobalOptions: false })
    .addHelpText("after", PROGRAM_HELP);
  for (const group of groupsFor(words[0])) {
    const add = await group.load();
    add(program, finish);
  }
  return program;
}

function quietOutput(command: Command): void {
  command.exitOverride();
  command.configureOutput({
    outputError: (text, write) =>
      write(
        `v2m: ${text
          .replace(/^error: /, "")
          .trim()
          .replaceAll("\n", " ")} [E_USAGE]\n`,
      ),
  });
  command.commands.forEach(quietOutput);
}

/** The code of env(1) and its like for a failure that is not the application's, which `v2m yod` keeps to. */
const YOD_FAILED = 125;

/** Command lines that commander refused, or that asked for help. */
function afterCommander(error: CommanderError, verb: string | undefined): number {
  if (error.exitCode === 0) return Exit.OK; // --help, --version
  if (error.code === "commander.help") return Exit.USAGE; // no verb: help was printed
  const known = VERBS.includes(verb ?? "") ? verb : "VERB";
  process.stderr.write(`hint: v2m --help lists the commands, v2m ${known} --help the options\n`);
  return verb === "yod" ? YOD_FAILED : Exit.USAGE;
}

async function main(words: readonly string[]): Promise<number> {
  let code: number = Exit.OK;
  try {
    const profile = profileCommand(words, VERBS);
    if (profile !== undefined) {
      const { runProfileCommand } = await import("./profile.js");
      return await runProfileCommand(profile);
    }
    const program = await buildProgram(words, (result) => {
      code = result;
    });
    quietOutput(program);
    await program.parseAsync(words, { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return afterCommander(error, words[0]);
    const json = words.includes("--json");
    process.stderr.write(
      json ? `${JSON.stringify({ error: errorJson(error) })}\n` : `${formatError(error)}\n`,
    );
    return exitCodeOf(error);
  }
}

process.exitCode = await main(process.argv.slice(2));
