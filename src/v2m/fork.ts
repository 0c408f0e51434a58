// SPDX-License-Identifier: Apache-2.0
/** `v2m fork`: clones of a running VM. */
import type { VmDefinition } from "../v3m/definition/types.js";
import { CLONES_MAX, type Clones } from "../v3m/fork.js";
import { expandRanges } from "../v3m/patterns.js";
import { Exit, SIGNAL_CODES } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { complain, ProgressBar, sayJson, sayTable } from "./output.js";
import { parseCount, UsageError } from "./values.js";

export interface ForkFlags extends FrontFlags {
  readonly name?: string;
}

/** @throws UsageError where both are given and differ */
function clonesOf(count: string | undefined, pattern: string | undefined): Clones {
  const number = count === undefined ? undefined : parseCount(count, "count", 1, CLONES_MAX);
  if (pattern === undefined) return number ?? 1;
  const names = expandRanges(pattern);
  if (number !== undefined && number !== names.length) {
    throw new UsageError(
      `--name ${pattern} has ${names.length} names for ${number} clones`,
      "leave the count out",
    );
  }
  return names;
}

const macs = ({ nics }: VmDefinition) => nics.map(({ mac }) => mac).join(" ");

const identity = ({ name, uuid, nics, generationId }: VmDefinition) => ({
  name,
  outcome: "running",
  uuid,
  nics: nics.map(({ id, mac }) => ({ id, mac })),
  generationId: generationId === undefined ? null : "new",
});

/** @returns the exit code */
export async function fork(vm: string, count: string | undefined, flags: ForkFlags): Promise<number> {
  const clones = clonesOf(count, flags.name);
  const v3m = openFront(flags);
  using interrupt = new Interrupt();
  using bar = new ProgressBar(flags.json !== true);
  let made: readonly VmDefinition[];
  try {
    made = await v3m.fork(vm, clones, { signal: interrupt.signal, onProgress: bar.show.bind(bar) });
  } catch (error) {
    if (interrupt.by === undefined) throw error;
    complain(error, flags.json === true);
    return SIGNAL_CODES[interrupt.by] ?? Exit.INTERNAL;
  }
  bar.clear();
  if (flags.json === true) sayJson(made.map(identity));
  else
    sayTable(
      ["CLONE", "MAC"],
      made.map((one) => [one.name, macs(one)]),
      "",
    );
  return Exit.OK;
}
