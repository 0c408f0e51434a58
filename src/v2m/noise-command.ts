// SPDX-License-Identifier: Apache-2.0
/** The verb `noise` on the command line. What does the work is loaded when it is asked for. */
import { type Command, Option } from "commander";
import { METHODS, PLACES } from "../noise/names.js";

const HELP = `
Methods: selfish (detours of a loop that reads the clock), fwq (fixed work quantum: how long the
same work takes), ftq (fixed time quantum: how much work is done in each interval).
Compared are the share of the CPU's time that was lost, the 99.9th percentile and the maximum of a
single loss; medians of alternated rounds. One static binary measures everywhere, with the same
parameters; guests have one vCPU. Where Linux guests cannot run on this host's KVM, all of it runs
in the nested machine, "host" included, so that all are measured on the same CPU.

Exit codes: 0 measured; 1 a measurement failed; 2 wrong option; 4 this host cannot run guests.

Examples:
  v2m noise --where host
  v2m noise --where linux --where lwk --method fwq --duration 10 --svg noise.svg
  v2m noise --json | jq '.series[] | {place, method, rounds}'
`;

/** As commander gives them. */
export interface NoiseFlags {
  readonly where?: readonly string[];
  readonly method?: readonly string[];
  readonly duration: string;
  readonly rounds: string;
  readonly threshold: string;
  readonly interval: string;
  readonly json?: boolean;
  readonly svg?: string;
}

/** Adds the verb to the program. @param finish is told the exit code */
export function addNoiseCommand(program: Command, finish: (code: number) => void): void {
  const several = (value: string, before: readonly string[] | undefined) => [...(before ?? []), value];
  program
    .command("noise")
    .description("Measure how much of a CPU's time does not reach a program: on the host, in guests.")
    .addOption(
      new Option("--where <place>", `${PLACES.join(", ")}; may be repeated (default: all)`).argParser(
        several,
      ),
    )
    .addOption(
      new Option("--method <name>", `${METHODS.join(", ")}; may be repeated (default: all)`).argParser(
        several,
      ),
    )
    .option("--duration <time>", "of each measurement: seconds, or 500ms, 1m", "5")
    .option("--rounds <n>", "alternated rounds", "3")
    .option("--threshold <ns>", "selfish: what takes longer is a detour", "1000")
    .option("--interval <us>", "length of ftq's interval, and about that of fwq's quantum", "1000")
    .option("--json", "as one line of JSON, with every detour")
    .option("--svg <file>", "draw time line and histogram")
    .addHelpText("after", HELP)
    .action(async (flags: NoiseFlags) => {
      const { noise } = await import("./noise.js");
      finish(await noise(flags));
    });
}
