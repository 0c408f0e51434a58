// SPDX-License-Identifier: Apache-2.0
/** Verbs that change VMs, each on as many as are named, a bounded number at once. */
import { defaultParallelism, mapBounded, type Settled } from "../v3m/bounded.js";
import { type GangVerb, gangOf } from "../v3m/gang.js";
import type { V3m } from "../v3m/v3m.js";
import type { OperationOptions } from "../vmm/backend.js";
import { Exit, exitCodeOf, SIGNAL_CODES } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { complain, ProgressBar, say, sayJson } from "./output.js";
import { errorJson } from "./report.js";
import { parseCount } from "./values.js";

export interface VerbFlags extends FrontFlags {
  readonly parallel?: string;
  readonly force?: boolean;
  readonly live?: boolean;
}

type Work = (v3m: V3m, name: string, options: OperationOptions) => Promise<string>;

async function verbed(done: Promise<unknown>, outcome: string): Promise<string> {
  await done;
  return outcome;
}

const WORK = {
  start: (v3m, name, options) => verbed(v3m.start(name, options), "running"),
  reset: (v3m, name, options) => verbed(v3m.reset(name, options), "reset"),
  pause: (v3m, name, options) => verbed(v3m.pause(name, options), "paused"),
  resume: (v3m, name, options) => verbed(v3m.resume(name, options), "running"),
  undefine: (v3m, name, options) => verbed(v3m.undefine(name, options), "undefined"),
} satisfies Readonly<Record<string, Work>>;

export type SimpleVerb = keyof typeof WORK;

const GANG_VERBS: readonly string[] = ["start", "stop", "pause", "resume"] satisfies readonly GangVerb[];

interface Outcome {
  readonly name: string;
  readonly outcome?: string;
  readonly error?: object;
}

function report(names: readonly string[], results: readonly Settled<string>[], json: boolean): number {
  const outcomes: Outcome[] = [];
  let code: number = Exit.OK;
  names.forEach((name, i) => {
    const result = results[i];
    if (result === undefined) return;
    if ("value" in result) {
      outcomes.push({ name, outcome: result.value });
      if (!json) say(`${name}: ${result.value}`);
      return;
    }
    outcomes.push({ name, error: errorJson(result.error) });
    if (!json) complain(result.error, false);
    if (code === Exit.OK) code = exitCodeOf(result.error);
  });
  if (json) sayJson(outcomes);
  return code;
}

/** Do `work` on every VM that `words` name. @returns the exit code: that of the first that failed */
async function onEach(words: readonly string[], flags: VerbFlags, what: string, work: Work): Promise<number> {
  const v3m = openFront(flags);
  const names = v3m.select(words);
  const parallel =
    flags.parallel === undefined ? defaultParallelism() : parseCount(flags.parallel, "--parallel", 1, 1024);
  using interrupt = new Interrupt();
  using bar = new ProgressBar(flags.json !== true);
  let done = 0;
  const gangs = new Map<string, Promise<string>>();
  // What is done on one of a gang is done on all: those that are named too share its outcome.
  const onceEachGang = (name: string, act: () => Promise<string>): Promise<string> => {
    const gang = GANG_VERBS.includes(what) ? gangOf(v3m.store, name) : undefined;
    if (gang === undefined) return act();
    const shared = gangs.get(gang) ?? act();
    gangs.set(gang, shared);
    return shared;
  };
  const results = await mapBounded(names, parallel, async (name) => {
    const options = {
      signal: interrupt.signal,
      ...(names.length > 1 ? {} : { onProgress: bar.show.bind(bar) }),
    };
    try {
      return await onceEachGang(name, () => work(v3m, name, options));
    } finally {
      done++;
      if (names.length > 1) bar.show({ what: `${what} ${name}`, done, total: names.length });
    }
  });
  bar.clear();
  const code = report(names, results, flags.json === true);
  return interrupt.by === undefined || code === Exit.OK ? code : (SIGNAL_CODES[interrupt.by] ?? code);
}

export async function simpleVerb(
  verb: SimpleVerb,
  words: readonly string[],
  flags: VerbFlags,
): Promise<number> {
  return await onEach(words, flags, verb, WORK[verb]);
}

export async function stop(words: readonly string[], flags: VerbFlags): Promise<number> {
  const force = flags.force === true;
  return await onEach(words, flags, "stop", (v3m, name, options) =>
    verbed(v3m.stop(name, { ...options, force }), "stopped"),
  );
}

export async function migrate(words: readonly string[], target: string, flags: VerbFlags): Promise<number> {
  const live = flags.live === true;
  return await onEach(words, flags, "migrate", (v3m, name, options) =>
    verbed(v3m.migrate(name, target, { ...options, live }), `migrated to ${target}`),
  );
}
