// SPDX-License-Identifier: Apache-2.0
/** The verb `completion` on the command line. */
import type { Command } from "commander";
import { completion, SHELLS } from "./completion.js";
import { Exit } from "./exit-codes.js";

/** @param program with all other verbs, which the script is made of. @param finish is told the exit code */
export function addCompletionCommand(program: Command, finish: (code: number) => void): void {
  program
    .command("completion")
    .description("Print a completion script for a shell.")
    .argument("<shell>", SHELLS.join(", "))
    .option("--json", "the script as the text of a JSON document")
    .addHelpText("after", "\nExamples:\n  source <(v2m completion bash)\n")
    .action((shell: string, flags: { readonly json?: boolean }) => {
      const script = completion(program, shell);
      process.stdout.write(flags.json === true ? `${JSON.stringify({ shell, script })}\n` : script);
      finish(Exit.OK);
    });
}
