// SPDX-License-Identifier: Apache-2.0
/** What the verbs on VMs have in common on the command line: help with examples, and options that all have. */
import type { Command } from "commander";

export type Finish = (code: number) => void;

export const NAMES_HELP = `
NAME may be a range, as in vm[0-7] or node[01-16,20], or a pattern with * and ? (quote it).`;

export const EXIT_HELP = `
Exit codes: 0 done; 2 wrong option, name or definition; 4 the back end cannot do it (v2m capabilities);
8 no such VM; 9 its state does not allow it; 10 another command is at work on it; 1, 5, 6, 11 it failed.
With several VMs: that of the first that failed; the others are done.
`;

export const collect = (value: string, before: readonly string[] = []) => [...before, value];

export interface Spec {
  readonly name: string;
  readonly description: string;
  readonly examples: readonly string[];
  /** More for --help, in front of the examples. */
  readonly help?: string;
  /** What the arguments are, for completion. */
  readonly operands?: Operands;
}

/** What stands behind a verb: names of VMs, files, types of back ends, names of images. */
export type Operands = "vms" | "files" | "types" | "images";

const operands = new WeakMap<Command, Operands>();

export function operandsOf(command: Command): Operands | undefined {
  return operands.get(command);
}

/** The option that all have is added last, so that it stands at the end of the help. */
export function verb(program: Command, spec: Spec): Command {
  const { name, description, examples, help = "" } = spec;
  const command = program
    .command(name)
    .description(description)
    .addHelpText("after", `${help}\nExamples:\n${examples.map((line) => `  ${line}\n`).join("")}`);
  if (spec.operands !== undefined) operands.set(command, spec.operands);
  return command;
}

export function common(command: Command): Command {
  return command
    .option("--json", "as JSON")
    .option("--wait <time>", "for another command on the same VM: seconds, or 500ms, 1m (default: 10)");
}

export function several(command: Command): Command {
  return common(command).option("--parallel <n>", "VMs at once (default: twice the CPUs, 4 to 32)");
}
