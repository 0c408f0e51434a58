// SPDX-License-Identifier: Apache-2.0
/** Alternated rounds over all contenders: the order changes, so that a drift hits all alike. */
import { cpus } from "node:os";
import { rotated } from "../measure/statistics.js";
import type { Contender } from "./contender.js";
import { TESTS } from "./names.js";
import { type Plan, type Request, waitMode } from "./plan.js";
import { type PathState, type Point, pointOf, type Series } from "./result.js";

/** One size of one test by one contender, and its rounds so far. */
interface Cell {
  readonly contender: Contender;
  readonly request: Request;
  readonly rounds: Point[];
}

/** The series to be measured, and the paths that cannot do with some number of pairs. */
export function cellsOf(
  plan: Plan,
  contenders: readonly Contender[],
  cores = cpus().length,
): { readonly cells: readonly Cell[][]; readonly refused: readonly PathState[] } {
  const refused: PathState[] = [];
  const cells: Cell[][] = [];
  for (const pairs of plan.pairs) {
    const wait = waitMode(plan, pairs, cores);
    const able = contenders.filter((contender) => {
      const why = contender.refusal({ pairs, wait });
      if (why !== undefined) refused.push({ path: contender.id as PathState["path"], pairs, skipped: why });
      return why === undefined;
    });
    for (const bytes of plan.sizes) {
      for (const test of TESTS) {
        const request: Request = { test, bytes, ns: plan.durationMs * 1e6, pairs, wait };
        const who = able.filter((contender) => contender.tests.includes(test));
        cells.push(who.map((contender) => ({ contender, request, rounds: [] })));
      }
    }
  }
  return { cells, refused };
}

async function measureOnce({ contender, request }: Cell): Promise<Point> {
  const brief = await contender.run({ ...request, ns: 0 });
  const long = await contender.run(request);
  return pointOf(request.test, request.bytes, brief, long);
}

/** @param progress is told of each point */
export async function measureRounds(
  plan: Plan,
  cells: readonly Cell[][],
  progress: (round: number, series: Omit<Series, "rounds">, point: Point) => void,
): Promise<Series[]> {
  const describe = ({ contender, request }: Cell): Omit<Series, "rounds"> => ({
    id: contender.id,
    kind: contender.kind,
    test: request.test,
    bytes: request.bytes,
    pairs: request.pairs,
    wait: request.wait,
    program: contender.program ?? "netbench",
    commands: contender.commands(request),
  });
  for (let round = 0; round < plan.rounds; round++) {
    for (const group of cells) {
      for (const cell of rotated(group, round)) {
        const point = await measureOnce(cell);
        cell.rounds.push(point);
        progress(round, describe(cell), point);
      }
    }
  }
  return cells.flat().map((cell) => ({ ...describe(cell), rounds: cell.rounds }));
}
