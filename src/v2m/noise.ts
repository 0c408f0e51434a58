// SPDX-License-Identifier: Apache-2.0
/** `v2m noise`: how much of a CPU's time does not reach a program: here, in a Linux guest, on the LWK. */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { V3mError } from "../errors.js";
import {
  METHODS,
  type Method,
  measureNoise,
  type NoiseOptions,
  type NoiseResult,
  noisePlot,
  PLACES,
  type Place,
  rows,
  verdicts,
} from "../noise/index.js";
import { diagnose } from "./doctor.js";
import { Exit } from "./exit-codes.js";
import type { NoiseFlags } from "./noise-command.js";
import { table } from "./report.js";
import { formatNs, parseCount, parseDuration, UsageError } from "./values.js";

/** A boot of Linux under emulation, and then some; seconds. */
const NESTED_SECONDS_PER_ROUND = 300;
const DRAWN_PLACES = new Set<string>(PLACES);
const DRAWN_METHODS = new Set<string>(METHODS);

function chosen<T extends string>(
  given: readonly string[] | undefined,
  known: ReadonlySet<string>,
  option: string,
  all: readonly T[],
): T[] {
  const wrong = given?.find((value) => !known.has(value));
  if (wrong !== undefined) {
    throw new UsageError(`${option} ${wrong}: unknown`, `one of ${all.join(", ")}`);
  }
  return all.filter((value) => given === undefined || given.includes(value));
}

/** @throws UsageError */
export function planNoise(flags: NoiseFlags): NoiseOptions {
  const seconds = parseDuration(flags.duration, "--duration") / 1000;
  if (seconds < 0.1 || seconds > 600) {
    throw new UsageError(`--duration ${flags.duration}: give 0.1 to 600 seconds`);
  }
  return {
    where: chosen<Place>(flags.where, DRAWN_PLACES, "--where", PLACES),
    methods: chosen<Method>(flags.method, DRAWN_METHODS, "--method", METHODS),
    rounds: parseCount(flags.rounds, "--rounds", 1, 100),
    seconds,
    thresholdNs: parseCount(flags.threshold, "--threshold", 100, 1_000_000),
    intervalNs: parseCount(flags.interval, "--interval", 10, 100_000) * 1000,
  };
}

/** The same command line inside the nested machine. */
async function measureNested(options: NoiseOptions): Promise<NoiseResult> {
  const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  const limit = 300 + options.rounds * (NESTED_SECONDS_PER_ROUND + 20 * options.seconds);
  const argv = [
    ...[here("../../harness/main.js"), "--no-stdin", "--timeout", String(Math.ceil(limit)), "--"],
    ...[process.execPath, here("main.js"), "noise", "--json"],
    ...options.where.flatMap((place) => ["--where", place]),
    ...options.methods.flatMap((method) => ["--method", method]),
    ...["--duration", String(options.seconds), "--rounds", String(options.rounds)],
    ...["--threshold", String(options.thresholdNs), "--interval", String(options.intervalNs / 1000)],
  ];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => child.kill(signal));
  const code = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) {
    throw new V3mError("E_NOISE", `measuring in the nested machine failed (exit code ${String(code)})`, {
      hint: "the reason is in the lines above",
    });
  }
  return JSON.parse(Buffer.concat(chunks).toString()) as NoiseResult;
}

function describe(result: NoiseResult): string {
  const { seconds, thresholdNs, intervalNs, work } = result.parameters;
  const where = result.testbed === null ? "" : `, emulated ${result.testbed} machine`;
  const guests = result.series.some((of) => of.place !== "host")
    ? `; guests: 1 vCPU, ${result.memoryMiB} MiB`
    : "";
  const lines = verdicts(result).map(({ method, lwk, linux, below }) => {
    const ratio = (lwk / linux).toPrecision(2);
    return `${method}: the LWK loses ${ratio} times what the Linux guest loses${below ? "" : " (not less)"}`;
  });
  return [
    `${result.cpu}${where}, Linux ${result.kernel}${guests}`,
    `rounds: ${result.rounds} of ${seconds} s; threshold ${thresholdNs} ns, interval ${intervalNs / 1000} µs, quantum ${work} turns; medians of the rounds`,
    "",
    table(rows(result, formatNs)),
    ...(lines.length > 0 ? ["", ...lines] : []),
  ].join("\n");
}

/** Measure, show, draw. @returns the exit code */
export async function noise(flags: NoiseFlags): Promise<number> {
  const plan = planNoise(flags);
  const say = (text: string) => process.stderr.write(`[v2m noise] ${text}\n`);
  const { place, advice } = diagnose();
  const guests = plan.where.some((where) => where !== "host");
  if (guests && place === "nowhere") {
    throw new V3mError("E_UNSUPPORTED", "guests cannot run here yet", { hint: advice });
  }
  const nested = guests && place === "nested";
  if (nested)
    say("in the nested machine, the host included: times are an emulator's, ratios are what counts");
  const result = nested
    ? await measureNested(plan)
    : await measureNoise({
        ...plan,
        progress: (round, where, { method, lost, maxNs }) =>
          say(
            `round ${round + 1}/${plan.rounds}: ${where} ${method}: ${(lost * 100).toPrecision(3)} % lost, at most ${formatNs(maxNs)} at once`,
          ),
      });
  if (flags.svg !== undefined) writeFileSync(flags.svg, noisePlot(result));
  process.stdout.write(flags.json === true ? `${JSON.stringify(result)}\n` : `${describe(result)}\n`);
  return Exit.OK;
}
