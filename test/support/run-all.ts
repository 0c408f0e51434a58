// SPDX-License-Identifier: Apache-2.0
/**
 * `make test`, after the build: runs all stages, as many at once as there are CPUs, then makes the table.
 *
 *     scripts/test [STAGE…]          (default: all of stages.ts)
 *
 * Each stage writes results/<stage>.log. Exit code 1 if anything failed, 130 or 143 if interrupted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, constants } from "node:os";
import { join } from "node:path";
import { contradictions, featureTable } from "./feature-table.js";
import { FULL } from "./places.js";
import { type PlaceResults, readResultsFile, type TestRecord } from "./reporter-results.js";
import { type Stage, stages } from "./stages.js";
import { allTestFiles, merge, report } from "./table.js";

const RESULTS = "results";
const TAIL_LINES = 40;
/** What the summary quotes of the log of a stage that failed. */
const WHY_LINES = 6;
const WHY_COLUMNS = 240;
const PROGRESS_MS = 60_000;
/** A stage that was told to end gets so long before it is killed. */
const GRACE_MS = 10_000;

const started = Date.now();
const running = new Map<Stage, ChildProcess>();
const outcomes = new Map<string, { code: number; ms: number }>();
let interrupted: NodeJS.Signals | undefined;

function say(text: string): void {
  const seconds = Math.round((Date.now() - started) / 1000);
  console.log(
    `[${String(Math.floor(seconds / 60)).padStart(2)}:${String(seconds % 60).padStart(2, "0")}] ${text}`,
  );
}

function logFile(stage: Stage): string {
  return join(RESULTS, `${stage.name.replaceAll(" ", "-")}.log`);
}

function tail(stage: Stage, lines: number): string {
  return readFileSync(logFile(stage), "utf8").trimEnd().split("\n").slice(-lines).join("\n");
}

/** The lines of its log that say what is wrong, or else the last ones. */
function why(stage: Stage): string {
  const lines = readFileSync(logFile(stage), "utf8").trimEnd().split("\n");
  const wrong = lines.filter((line) =>
    /error|warning:|\*\*\*|killed|terminated|fault|stack dump/i.test(line),
  );
  return (wrong.length > 0 ? wrong.slice(-WHY_LINES) : lines.slice(-WHY_LINES))
    .map((line) => line.slice(0, WHY_COLUMNS))
    .join("\n");
}

/** What earlier runs left; other files in the directory are none of our business. */
function clean(all: readonly Stage[]): void {
  mkdirSync(RESULTS, { recursive: true });
  for (const name of readdirSync(RESULTS)) {
    if (
      /^(host|amd|intel|host-kvm)(\..+)?\.(json|out)$/.test(name) ||
      /^(amd|amd-guests|intel)\.out$/.test(name)
    ) {
      rmSync(join(RESULTS, name), { recursive: true });
    }
  }
  for (const stage of all) rmSync(logFile(stage), { force: true });
}

function run(stage: Stage): Promise<number> {
  const log = openSync(logFile(stage), "w");
  // In a process group of its own, which ends with us, whatever ends us.
  const child = spawn("setpriv", ["--pdeathsig", "TERM", ...stage.argv], {
    env: { ...process.env, NO_COLOR: "1", ...stage.env },
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  running.set(stage, child);
  return new Promise((resolve) => {
    child.on("error", () => resolve(127));
    child.on("close", (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? "SIGKILL"]));
  }).then((code) => {
    running.delete(stage);
    signalGroup(child, "SIGKILL"); // whatever it left running
    return code as number;
  });
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // Nobody is left in it.
  }
}

function interrupt(signal: NodeJS.Signals): void {
  if (interrupted === undefined) {
    interrupted = signal;
    say(`${signal}: ending ${[...running.keys()].map((stage) => stage.name).join(", ")}`);
    for (const child of running.values()) signalGroup(child, "SIGTERM");
  }
  setTimeout(() => {
    for (const child of running.values()) signalGroup(child, "SIGKILL");
  }, GRACE_MS).unref();
}

/** Start what may be started until nothing is left; the order in the list is the preference. */
async function runAll(all: readonly Stage[]): Promise<void> {
  const waiting = [...all];
  const slots = Math.max(2, availableParallelism());
  const names = new Set(all.map((stage) => stage.name));
  const ready = (stage: Stage) => (stage.after ?? []).every((name) => !names.has(name) || outcomes.has(name));
  const under: Promise<void>[] = [];
  const fill = (): void => {
    while (running.size < slots && interrupted === undefined) {
      const next = waiting.findIndex(ready);
      const stage = waiting[next];
      if (stage === undefined) return;
      waiting.splice(next, 1);
      under.push(one(stage));
    }
  };
  const one = async (stage: Stage): Promise<void> => {
    const begin = Date.now();
    say(`${stage.name}: started`);
    let code = await run(stage);
    if (code !== 0 && stage.results === undefined && interrupted === undefined) {
      // A download that broke off, or a tool that died: what is wrong with the code fails again.
      say(`${stage.name}: FAILED (exit code ${code}), once more\n${why(stage)}`);
      code = await run(stage);
    }
    const ms = Date.now() - begin;
    outcomes.set(stage.name, { code, ms });
    if (interrupted === undefined) {
      say(
        `${stage.name}: ${code === 0 ? "done" : `FAILED (exit code ${code})`} after ${Math.round(ms / 1000)} s`,
      );
      if (code !== 0) console.log(tail(stage, TAIL_LINES).replace(/^/gm, `${stage.name} | `));
    }
    fill();
  };
  fill();
  // Grows while it is awaited.
  for (let i = 0; i < under.length; i++) await under[i];
}

/** Results of the stages: those with tests leave files, the others are a test each. */
function collect(all: readonly Stage[]): PlaceResults[] {
  const found: PlaceResults[] = [];
  const records: TestRecord[] = [];
  const errors: string[] = [];
  for (const stage of all) {
    const { code, ms } = outcomes.get(stage.name) ?? { code: -1, ms: 0 };
    if (stage.results === undefined) {
      const state = code === 0 ? "passed" : "failed";
      const note = code === 0 ? {} : { note: `exit code ${code}, see ${logFile(stage)}:\n${why(stage)}` };
      records.push({ file: "checks", name: stage.name, state, ms, ...note });
      continue;
    }
    const results = readResultsFile(stage.results.file);
    if (results !== undefined) found.push(results);
    const failed = results?.errors.length || results?.records.some((record) => record.state === "failed");
    if (results === undefined || (code !== 0 && !failed)) {
      errors.push(`stage ${stage.name} ended with exit code ${code}, see ${logFile(stage)}`);
    }
  }
  return [{ place: "host", records, errors }, ...found];
}

const wanted = process.argv.slice(2);
const known = stages(RESULTS);
const unknown = wanted.filter((name) => !known.some((stage) => stage.name === name));
if (unknown.length > 0) {
  console.error(
    `scripts/test: no stage ${unknown.join(", ")}; there are: ${known.map((s) => s.name).join(", ")}`,
  );
  process.exit(2);
}
const all = known.filter((stage) => wanted.length === 0 || wanted.includes(stage.name));
clean(known);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => interrupt(signal));
}
const progress = setInterval(() => {
  for (const stage of running.keys()) say(`${stage.name}: … ${tail(stage, 1).slice(0, 120)}`);
}, PROGRESS_MS);
say(`${FULL ? "full" : "short"} rounds; logs in ${RESULTS}/`);
await runAll(all);
clearInterval(progress);
if (interrupted !== undefined) {
  process.exit(128 + constants.signals[interrupted]);
}
const expected = wanted.length === 0 ? allTestFiles(process.cwd()) : undefined;
const results = collect(all);
const wrong = contradictions(readFileSync("README.md", "utf8"), featureTable(results));
results.push({ place: "host", records: [], errors: wrong.map((line) => `${line}: scripts/feature-table`) });
process.exitCode = report(merge(results, expected), join(RESULTS, "table.md"));
