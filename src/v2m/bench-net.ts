// SPDX-License-Identifier: Apache-2.0
/** `v2m bench net`: what the ways between two guests cost. */
import { V3mError } from "../errors.js";
import {
  circumstances,
  DEFAULT_SIZES,
  type GuestKind,
  HEADING,
  measureNet,
  type NetBenchResult,
  PATHS,
  type PathName,
  type Plan,
  rows,
  SIZE_MOST,
  skipped,
  verdicts,
  writeFiles,
} from "../netbench/index.js";
import { hostFacts, virtualization } from "../vmm/host.js";
import { pciAddress } from "../vmm/vfio.js";
import type { BenchNetFlags } from "./bench-command.js";
import { diagnose } from "./doctor.js";
import { Exit, SIGNAL_CODES } from "./exit-codes.js";
import { Interrupt } from "./front.js";
import { say, sayJsonLine } from "./output.js";
import { table } from "./report.js";
import { parseCount, parseDuration, UsageError } from "./values.js";

const MOST_PAIRS = 16;

/** Parts of a list, each once, in the order given. @throws UsageError where it is empty */
function parts(text: string, option: string): string[] {
  const all = [...new Set(text.split(",").map((part) => part.trim()))].filter((part) => part !== "");
  if (all.length === 0) throw new UsageError(`${option} ${text}: names nothing`);
  return all;
}

function parsePaths(text: string): PathName[] {
  const given = parts(text, "--paths");
  const wrong = given.find((name) => !PATHS.some((path) => path === name));
  if (wrong !== undefined) {
    throw new UsageError(`--paths ${wrong}: unknown`, `one of ${PATHS.join(", ")}`);
  }
  return PATHS.filter((path) => given.includes(path));
}

/** `8`, `4K`, `1M`. */
function parseSizes(text: string): number[] {
  return parts(text, "--sizes")
    .map((part) => {
      const match = /^(\d{1,9})([KM]?)$/i.exec(part);
      const unit = { "": 1, K: 1 << 10, M: 1 << 20 }[match?.[2]?.toUpperCase() ?? ""] ?? Number.NaN;
      const bytes = Number(match?.[1] ?? Number.NaN) * unit;
      if (!(bytes >= 1 && bytes <= SIZE_MOST)) {
        throw new UsageError(`--sizes ${part}: no size of a message`, "from 1 byte to 4M: 8, 4K, 1M");
      }
      return bytes;
    })
    .toSorted((a, b) => a - b);
}

/** Addresses of two functions. */
function parseFunctions(text: string): [string, string] {
  const [leader, follower, ...more] = parts(text, "--vfio").map((part) => pciAddress(part, "--vfio"));
  if (leader === undefined || follower === undefined || leader === follower || more.length > 0) {
    throw new UsageError(
      `--vfio ${text}: give two functions that can reach each other`,
      "such as 0000:3b:00.1,0000:3b:00.2",
    );
  }
  return [leader, follower];
}

/** @throws UsageError */
export function planBenchNet(flags: BenchNetFlags): Plan {
  const durationMs = parseDuration(flags.duration, "--duration");
  if (durationMs < 10 || durationMs > 600_000) {
    throw new UsageError(`--duration ${flags.duration}: give 10 ms to 10 minutes`);
  }
  return {
    paths: parsePaths(flags.paths),
    guests: flags.guests as GuestKind,
    sizes: flags.sizes === undefined ? DEFAULT_SIZES : parseSizes(flags.sizes),
    durationMs,
    pairs: parts(flags.pairs, "--pairs").map((part) => parseCount(part, "--pairs", 1, MOST_PAIRS)),
    rounds: parseCount(flags.rounds, "--rounds", 1, 1000),
    wait: flags.wait as Plan["wait"],
    vfio: flags.vfio === undefined ? null : parseFunctions(flags.vfio),
  };
}

/** Whether the guests run in the nested machine. @throws V3mError where they run nowhere */
function isNested(guests: GuestKind): boolean {
  if (guests === "payload" && virtualization(hostFacts()) !== "none") return false;
  const { place, advice } = diagnose();
  if (place === "nowhere") {
    throw new V3mError("E_UNSUPPORTED", "guests cannot run here yet", { hint: advice });
  }
  return place === "nested";
}

function describe(result: NetBenchResult): string {
  const last = [...skipped(result), ...verdicts(result)];
  return [
    ...circumstances(result),
    "",
    table([[...HEADING], ...rows(result)]),
    ...(last.length > 0 ? ["", ...last] : []),
  ].join("\n");
}

/** Measure, show, write. @returns the exit code */
export async function benchNet(flags: BenchNetFlags): Promise<number> {
  const plan = planBenchNet(flags);
  const nested = isNested(plan.guests);
  if (nested) {
    process.stderr.write(
      "[v2m bench net] in the nested machine: times are an emulator's, counts are what counts\n",
    );
  }
  using interrupt = new Interrupt();
  const command = ["v2m", ...process.argv.slice(2)];
  try {
    const result = await measureNet(plan, { nested, command, signal: interrupt.signal });
    const text = describe(result);
    const paths = flags.out === undefined ? [] : await writeFiles(flags.out, result, text);
    if (flags.json === true) sayJsonLine(result);
    else say([text, ...(paths.length > 0 ? ["", ...paths] : [])].join("\n"));
    return Exit.OK;
  } catch (error) {
    if (interrupt.by === undefined) throw error;
    return SIGNAL_CODES[interrupt.by] ?? Exit.INTERNAL;
  }
}
