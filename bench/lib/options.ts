// SPDX-License-Identifier: Apache-2.0
/** Options that benchmarks have in common, and how they are read. */
import { parseArgs } from "node:util";

export const ROUNDS = 7;
export const QUICK_ROUNDS = 3;

export interface BenchOptions {
  readonly rounds: number;
  readonly quick: boolean;
  readonly results: string;
  readonly flags: ReadonlySet<string>;
  /** The arguments as given, to hand on to another process. */
  readonly args: readonly string[];
}

/** Prints the text and ends the process: 0 for --help, 2 for what cannot be understood. */
function leave(usage: string, error?: unknown): never {
  if (error === undefined) {
    process.stdout.write(usage);
    process.exit(0);
  }
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}`);
  process.exit(2);
}

/** @param flags further options without a value */
export function readOptions(usage: string, flags: readonly string[]): BenchOptions {
  const args = process.argv.slice(2);
  try {
    const { values } = parseArgs({
      args,
      options: {
        rounds: { type: "string" },
        results: { type: "string" },
        quick: { type: "boolean" },
        help: { type: "boolean" },
        ...Object.fromEntries(flags.map((flag) => [flag, { type: "boolean" as const }])),
      },
    });
    if (values.help === true) leave(usage);
    const quick = values.quick === true;
    const rounds = typeof values.rounds === "string" ? Number(values.rounds) : quick ? QUICK_ROUNDS : ROUNDS;
    if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
      throw new Error(`--rounds: a whole number from 1 to 1000, not ${String(values.rounds)}`);
    }
    const set = Object.entries(values).filter(([name, value]) => value === true && flags.includes(name));
    return {
      rounds,
      quick,
      results: typeof values.results === "string" ? values.results : "results",
      flags: new Set(set.map(([name]) => name)),
      args,
    };
  } catch (error) {
    leave(usage, error);
  }
}
