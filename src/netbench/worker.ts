// SPDX-License-Identifier: Apache-2.0
/**
 * The measuring process: takes a plan as its argument and writes the result to standard output, as JSON; progress goes to
 * standard error. Its machines and its network are gone when it is, however it ends.
 */
import { spawnSync } from "node:child_process";
import { V3mError } from "../errors.js";
import { environment } from "../measure/environment.js";
import { PRIVATE_NETWORK } from "./availability.js";
import type { Contender } from "./contender.js";
import { floors } from "./floors.js";
import { cellsOf, measureRounds } from "./measure.js";
import { LABELS } from "./names.js";
import { openPlaces } from "./places.js";
import type { Plan } from "./plan.js";
import { type NetBenchResult, type PathState, type Point, ratios } from "./result.js";
import { formatSize, formatTime } from "./table.js";

/** What the worker writes: a result, or why there is none. */
export type WorkerAnswer =
  | { readonly result: Omit<NetBenchResult, "command" | "host"> }
  | { readonly error: { readonly code: string; readonly message: string; readonly hint?: string } };

const say = (text: string) => process.stderr.write(`[v2m bench net] ${text}\n`);

function brief(point: Point): string {
  const exits = point.exitsPerMessage === null ? "" : `, ${point.exitsPerMessage.toFixed(3)} exits a message`;
  const speed =
    point.latencyNs === null
      ? `${(point.bytesPerSecond / 1e6).toPrecision(4)} MB/s`
      : formatTime(point.latencyNs.p50);
  return `${speed}${exits}`;
}

/** @throws V3mError E_UNSUPPORTED where none of the paths can be measured */
async function measure(plan: Plan): Promise<Omit<NetBenchResult, "command" | "host">> {
  // An own network begins with its loopback down.
  if (process.env[PRIVATE_NETWORK] === "private") spawnSync("ip", ["link", "set", "lo", "up"]);
  await using places = await openPlaces(plan, say);
  const contenders: Contender[] = floors();
  const states: PathState[] = [];
  for (const offer of places.offers) {
    if ("contender" in offer) contenders.push(offer.contender);
    else states.push({ path: offer.id, skipped: offer.skipped });
  }
  const { cells, refused } = cellsOf(plan, contenders);
  states.push(...refused);
  const measured = new Set(cells.flat().map(({ contender }) => contender.id));
  const paths = plan.paths.filter((path) => measured.has(path));
  if (paths.length === 0) {
    const reasons = states.map(({ path, skipped }) => `${path}: ${skipped}`);
    throw new V3mError("E_UNSUPPORTED", `no path can be measured here: ${reasons.join("; ")}`, {
      hint: "v2m bench net --help says what the paths need",
    });
  }
  const series = await measureRounds(plan, cells, (round, { id, test, bytes, pairs }, point) => {
    const many = pairs === 1 ? "" : ` x ${pairs}`;
    say(
      `round ${round + 1}/${plan.rounds}: ${LABELS[id]}${many}, ${test}, ${formatSize(bytes)}: ${brief(point)}`,
    );
  });
  const measuredHere = { plan, machine: environment(), series };
  return {
    schema: "v3m-bench-net/1",
    ...measuredHere,
    guests: places.guests,
    paths: [...states, ...paths.map((path) => ({ path, skipped: null }))],
    ratios: ratios(measuredHere),
  };
}

async function main(): Promise<WorkerAnswer> {
  try {
    return { result: await measure(JSON.parse(process.argv[2] ?? "") as Plan) };
  } catch (error) {
    if (!(error instanceof V3mError)) throw error;
    const { code, message, hint } = error;
    return { error: { code, message, ...(hint === undefined ? {} : { hint }) } };
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));
process.stdout.write(`${JSON.stringify(await main())}\n`);
