// SPDX-License-Identifier: Apache-2.0
/**
 * Runs compiled test files in this process with Vitest's own runner, one after the other: no Vite, no
 * transformation, no second copy of Node. The supervisor (light-runner.ts) starts it with the files' names.
 */
import { join, relative } from "node:path";
import { type File, type Suite, startTests, type Task, type Test, type VitestRunner } from "@vitest/runner";
import { getNames, getTests } from "@vitest/runner/utils";
import type { LightMessage } from "./light-protocol.js";
import { excluded, LIMITS, suiteOf } from "./places.js";
import { describeErrors, SEPARATOR, type TestRecord } from "./reporter-results.js";

const root = process.cwd();

function tell(message: LightMessage): void {
  process.send?.(message);
}

/** The source of a compiled file: dist/test/kvm/a.test.js → test/kvm/a.test.ts. */
function sourceOf(file: File): string {
  return relative(root, file.filepath)
    .replace(/^dist\//, "")
    .replace(/\.js$/, ".ts");
}

function nameOf(test: Test): string {
  return getNames(test).slice(1).join(SEPARATOR);
}

function outwards(task: Task): Suite[] {
  const suite = task.suite ?? (task.file === task ? undefined : task.file);
  return suite === undefined ? [] : [suite, ...outwards(suite)];
}

function recordOf(test: Test): TestRecord {
  const around = outwards(test);
  const outside = describeErrors(around.flatMap((suite) => suite.result?.errors ?? []));
  const state = test.result?.state;
  const base = { file: sourceOf(test.file), name: nameOf(test), ms: Math.round(test.result?.duration ?? 0) };
  if (state === "pass") {
    return { ...base, state: "passed" };
  }
  if (state === "fail" || outside !== "") {
    return { ...base, state: "failed", note: describeErrors(test.result?.errors) || outside };
  }
  if (state === "run" || state === "queued") {
    return { ...base, state: "failed", note: "did not end" };
  }
  const reason = [test, ...around].map((task) => task.meta.skipReason).find((why) => why !== undefined);
  return { ...base, state: "skipped", ...(reason === undefined ? {} : { note: reason }) };
}

/** Skip what is left out in this place, and suites of which nothing is left, with their hooks. */
function leaveOut(suite: Suite, file: string): void {
  for (const task of suite.tasks) {
    if (task.type === "suite") {
      leaveOut(task, file);
      continue;
    }
    const reason = task.mode === "run" ? excluded(`${file}${SEPARATOR}${nameOf(task)}`) : undefined;
    if (reason !== undefined) {
      task.mode = "skip";
      task.meta.skipReason = reason;
    }
  }
  if (suite.tasks.length > 0 && suite.tasks.every((task) => task.mode === "skip")) {
    suite.mode = "skip";
  }
}

class LightRunner implements VitestRunner {
  readonly config: VitestRunner["config"];

  constructor(limitMs: number, pattern: RegExp | undefined) {
    this.config = {
      root,
      setupFiles: [],
      name: undefined,
      passWithNoTests: true,
      testNamePattern: pattern,
      allowOnly: false,
      sequence: { seed: 1, hooks: "stack", setupFiles: "list" },
      chaiConfig: undefined,
      maxConcurrency: 5,
      testTimeout: limitMs,
      hookTimeout: limitMs,
      retry: 0,
      includeTaskLocation: false,
      tags: [],
      tagsFilter: undefined,
      strictTags: false,
    };
  }

  importFile(path: string): unknown {
    return import(path);
  }

  onCollected(files: File[]): void {
    for (const file of files) {
      const source = sourceOf(file);
      leaveOut(file, source);
      tell({ type: "collected", file: source, names: getTests(file).map(nameOf) });
    }
  }

  onBeforeRunSuite(suite: Suite): void {
    tell({ type: "busy", what: suite.name, limitMs: this.config.hookTimeout });
  }

  onBeforeRunTask(test: Test): void {
    tell({ type: "busy", what: nameOf(test), limitMs: test.timeout || this.config.testTimeout });
  }

  onAfterRunTask(test: Test): void {
    if (test.result?.state === "pass" || test.result?.state === "fail") {
      tell({ type: "test", record: recordOf(test) });
    }
  }
}

async function runFile(source: string, pattern: RegExp | undefined): Promise<void> {
  const limitMs = LIMITS[suiteOf(source)];
  tell({ type: "busy", what: `loading ${source}`, limitMs });
  const path = join(root, "dist", source.replace(/\.ts$/, ".js"));
  const files = await startTests([path], new LightRunner(limitMs, pattern));
  const errors: string[] = [];
  const collect = (suite: Suite): void => {
    const text = describeErrors(suite.result?.errors);
    if (text !== "") {
      errors.push(`${source}${SEPARATOR}${suite.name}: ${text}`);
    }
    for (const task of suite.tasks) {
      if (task.type === "suite") collect(task);
      else if (task.result?.state !== "pass" && task.result?.state !== "fail") {
        tell({ type: "test", record: recordOf(task) });
      }
    }
  };
  for (const file of files) {
    collect(file);
  }
  tell({ type: "file", file: source, errors });
}

/** An error that nobody caught ends the process: the supervisor sees that and tells what was running. */
process.on("unhandledRejection", (reason) => {
  throw reason;
});

const [pattern, ...files] = process.argv.slice(2);
for (const file of files) {
  await runFile(file, pattern === undefined || pattern === "" ? undefined : new RegExp(pattern));
}
process.exit(0);
