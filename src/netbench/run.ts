// SPDX-License-Identifier: Apache-2.0
/** Starts the measuring process where it can work: here or in the nested machine, in a network of its own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { V3mError } from "../errors.js";
import { environment } from "../measure/environment.js";
import { PRIVATE_NETWORK } from "./availability.js";
import { isNetworkPath } from "./links.js";
import { FLOORS, PATHS, TESTS } from "./names.js";
import type { Plan } from "./plan.js";
import type { NetBenchResult } from "./result.js";
import type { WorkerAnswer } from "./worker.js";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Of one measurement in the nested machine, beside its duration: a boot's share, two starts of the program. */
const NESTED_SECONDS = 20;
const NESTED_BOOT_SECONDS = 600;
const FLOORS_AND_PATHS = FLOORS.length + PATHS.length;

/** Guests with network cards get a network of their own: it takes bridges and taps along when it goes. */
function namespaced(plan: Plan, command: readonly string[], trusted: boolean): readonly string[] {
  if (!plan.paths.some(isNetworkPath)) return command;
  const asRoot = trusted || process.geteuid?.() === 0 ? [] : ["--map-root-user"];
  const unshare = ["unshare", "--net", ...asRoot];
  const [program = "", ...args] = [...unshare, "true"];
  const tried = trusted ? undefined : spawnSync(program, args, { encoding: "utf8" });
  if (tried !== undefined && tried.status !== 0) {
    const why = tried.error?.message ?? tried.stderr.trim();
    return ["env", `${PRIVATE_NETWORK}=no network of its own can be made: ${why}`, ...command];
  }
  return [...unshare, "env", `${PRIVATE_NETWORK}=private`, ...command];
}

/** Seconds that nothing takes longer than: against hangs. */
function limit(plan: Plan): number {
  const measurements = plan.rounds * plan.sizes.length * plan.pairs.length * TESTS.length * FLOORS_AND_PATHS;
  return NESTED_BOOT_SECONDS + Math.ceil(measurements * (NESTED_SECONDS + (3 * plan.durationMs) / 1000));
}

function commandLine(plan: Plan, nested: boolean): readonly string[] {
  const worker = [process.execPath, here("worker.js"), JSON.stringify(plan)];
  if (!nested) return namespaced(plan, worker, false);
  const testbed = [here("../../harness/main.js"), "--no-stdin", "--timeout", String(limit(plan))];
  return [process.execPath, ...testbed, "--", ...namespaced(plan, worker, true)];
}

async function answerOf(child: ChildProcess): Promise<{ code: number | null; text: string }> {
  const chunks: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => chunks.push(chunk));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { code, text: Buffer.concat(chunks).toString() };
}

export interface RunOptions {
  /** Whether guests have to run in the nested machine. */
  readonly nested: boolean;
  /** What was typed, for the result. */
  readonly command: readonly string[];
  /** Ends the measuring process, and all that it has. */
  readonly signal: AbortSignal;
}

/** @throws V3mError: E_UNSUPPORTED, E_GUEST, E_ABORTED … */
export async function measureNet(plan: Plan, options: RunOptions): Promise<NetBenchResult> {
  const { nested, command, signal } = options;
  if (nested && plan.guests === "linux") {
    // Fetched here: the nested machine has no network.
    await (await import("./linux.js")).linuxFiles();
  }
  const [program = "", ...args] = commandLine(plan, nested);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const end = () => child.kill("SIGTERM");
  signal.addEventListener("abort", end);
  const { code, text } = await answerOf(child).finally(() => signal.removeEventListener("abort", end));
  if (signal.aborted) throw new V3mError("E_ABORTED", "interrupted: nothing was written");
  if (code !== 0 || text === "") {
    throw new V3mError("E_GUEST", `measuring failed (exit code ${String(code)})`, {
      hint: "the reason is in the lines above",
    });
  }
  const answer = JSON.parse(text) as WorkerAnswer;
  if ("error" in answer) {
    const { code: errorCode, message, hint } = answer.error;
    throw new V3mError(errorCode, message, { hint });
  }
  return { ...answer.result, command, host: nested ? environment() : null };
}
