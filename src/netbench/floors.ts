// SPDX-License-Identifier: Apache-2.0
/** The floors: the measuring program alone, on this host. */
import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { promisify } from "node:util";
import { V3mError } from "../errors.js";
import type { Contender, Outcome } from "./contender.js";
import { FLOORS, type FloorName, TESTS } from "./names.js";
import type { Request } from "./plan.js";
import { parseSample, program, requestWords, type Sample } from "./program.js";

const run = promisify(execFile);

const WAYS: Readonly<Record<FloorName, readonly string[]>> = {
  processes: ["via=processes", "writes=all"],
  protected: ["via=processes", "writes=own"],
  loopback: ["via=loopback"],
  memcpy: ["via=copy"],
};

/** Each side on a core of its own, where there are two. */
function placeWords(pair: number): string[] {
  const cores = cpus().length;
  return cores < 2 ? [] : [`cpus=${(2 * pair) % cores},${(2 * pair + 1) % cores}`];
}

function words(id: FloorName, request: Request, pair: number): string[] {
  const wait = id === "processes" || id === "protected" ? [`wait=${request.wait}`] : [];
  return [...WAYS[id], ...wait, ...placeWords(pair), ...requestWords(request)];
}

async function measure(id: FloorName, request: Request, pair: number): Promise<Sample> {
  try {
    const { stdout } = await run(program(), words(id, request, pair));
    return parseSample(stdout);
  } catch (error) {
    if (error instanceof V3mError) throw error;
    const { stderr = "" } = error as { stderr?: string };
    throw new V3mError("E_GUEST", `the measuring program failed: ${stderr.trim() || String(error)}`, {
      cause: error,
    });
  }
}

function floor(id: FloorName): Contender {
  return {
    id,
    kind: "floor",
    tests: id === "memcpy" ? ["stream"] : TESTS,
    commands: (request) => [`netbench ${words(id, request, 0).join(" ")}`],
    refusal: () => undefined,
    async run(request): Promise<Outcome> {
      const pairs = Array.from({ length: request.pairs }, (_, pair) => pair);
      const samples = await Promise.all(pairs.map((pair) => measure(id, request, pair)));
      const cpuNs = samples.reduce((sum, { cpu }) => sum + cpu, 0);
      return { samples, exits: null, interrupts: null, cpuNs };
    },
  };
}

export function floors(): Contender[] {
  return FLOORS.map(floor);
}
