// SPDX-License-Identifier: Apache-2.0
/** A Vitest reporter that leaves results for the table (see reporter-results.ts). */
import type { Reporter, TestCase, TestModule, TestSuite } from "vitest/node";
import { describeErrors, type TestRecord, writeResults } from "./reporter-results.js";

/** The reason that `suite` of capabilities.ts gave, here or further out. */
function skipReason(task: TestCase | TestSuite | TestModule): string | undefined {
  const reason = task.meta().skipReason;
  return reason ?? (task.type === "module" ? undefined : skipReason(task.parent));
}

/** What failed round a test: a hook of a suite that it is in. Vitest calls such a test skipped. */
function failedOutside(task: TestCase | TestSuite): string | undefined {
  const { parent } = task;
  const text = describeErrors(parent.errors());
  return text || (parent.type === "module" ? undefined : failedOutside(parent));
}

function recordOf(test: TestCase): TestRecord {
  const result = test.result();
  const outside = result.state === "skipped" ? failedOutside(test) : undefined;
  const state = outside !== undefined || result.state === "pending" ? "failed" : result.state;
  const skipNote = skipReason(test) ?? (result.state === "skipped" ? result.note : undefined);
  const note = state === "skipped" ? skipNote : (outside ?? describeErrors(result.errors));
  return {
    file: test.module.relativeModuleId,
    name: test.fullName,
    state,
    ms: Math.round(test.diagnostic()?.duration ?? 0),
    ...(note === undefined || note === "" ? {} : { note }),
  };
}

export class ResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly { message?: string }[]): void {
    const ofModules = modules.flatMap((module) =>
      [module, ...module.children.allSuites()].flatMap((task) =>
        task.errors().map((error) => `${module.relativeModuleId}: ${describeErrors([error])}`),
      ),
    );
    writeResults(
      modules.flatMap((module) => [...module.children.allTests()].map(recordOf)),
      [...ofModules, ...unhandled.map((error) => describeErrors([error]))],
    );
  }
}
