// SPDX-License-Identifier: Apache-2.0
/** What a run leaves behind for the table: results/<place>[.<part>].json. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { currentPlace, type Place } from "./places.js";

export type TestState = "passed" | "failed" | "skipped";

export interface TestRecord {
  /** Path from the project's root, of the source: test/kvm/raw-run.test.ts. */
  readonly file: string;
  /** Suites and test, separated by " > "; with the file it is the test's identity in all places. */
  readonly name: string;
  readonly state: TestState;
  readonly ms: number;
  /** Why it was skipped or how it failed. */
  readonly note?: string;
}

export interface PlaceResults {
  readonly place: Place;
  /** Where a place is covered by several runs: which of them. */
  readonly part?: string;
  readonly records: readonly TestRecord[];
  /** Failures that belong to no test: a file that cannot be loaded, an unhandled error, a process that died. */
  readonly errors: readonly string[];
}

/** Between the names of suites and tests. */
export const SEPARATOR = " > ";

/** Where to leave results; undefined (a run by hand): nowhere. */
export function resultsDirectory(): string | undefined {
  return process.env.V3M_RESULTS || process.env.V3M_TESTBED_OUT || undefined;
}

export function resultsFile(directory: string, place: Place, part: string | undefined): string {
  return join(directory, part === undefined ? `${place}.json` : `${place}.${part}.json`);
}

/** Writes by rename, so that a reader never finds half a file. */
export function writeResults(
  records: readonly TestRecord[],
  errors: readonly string[],
  directory = resultsDirectory(),
): void {
  if (directory === undefined) {
    return;
  }
  const part = process.env.V3M_TEST_PART || undefined;
  const place = currentPlace();
  const results: PlaceResults = { place, ...(part === undefined ? {} : { part }), records, errors };
  const path = resultsFile(directory, place, part);
  mkdirSync(directory, { recursive: true });
  writeFileSync(`${path}.tmp`, `${JSON.stringify(results, null, 1)}\n`);
  renameSync(`${path}.tmp`, path);
}

/** What a run left, if it did. */
export function readResultsFile(path: string): PlaceResults | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as PlaceResults;
  } catch {
    return undefined;
  }
}

/** What Vitest keeps about an error. */
interface SerializedError {
  readonly name?: string;
  readonly message?: string;
  readonly stack?: string;
  readonly diff?: string;
  readonly cause?: unknown;
}

/** Message, difference and stack of the first errors, short enough for a report. */
export function describeErrors(errors: readonly SerializedError[] | undefined): string {
  const texts = (errors ?? []).slice(0, 3).map((error) => {
    const stack = (error.stack ?? "").split("\n").filter((line) => /^\s*at |❯/.test(line));
    const own = stack.filter((line) => !/node_modules|node:internal/.test(line)).slice(0, 6);
    const head = [error.name, error.message].filter(Boolean).join(": ");
    return [head, error.diff, ...own].filter(Boolean).join("\n");
  });
  return texts.join("\n").slice(0, 4000);
}
