// SPDX-License-Identifier: Apache-2.0
/**
 * The table of tests × places where they ran. A run has failed if a test failed in any place, if one ran nowhere,
 * or if a file of tests is missing altogether.
 */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PLACES, type Place, SUITES } from "./places.js";
import { type PlaceResults, SEPARATOR, type TestRecord } from "./reporter-results.js";

export interface Row {
  readonly file: string;
  readonly name: string;
  readonly at: ReadonlyMap<Place, TestRecord>;
}

export interface Table {
  readonly places: readonly Place[];
  readonly rows: readonly Row[];
  /** Everything that makes the run a failure, one line or more each. */
  readonly problems: readonly string[];
  /** Tests that passed at a second attempt, and how the first one failed. */
  readonly again: readonly string[];
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const MARKS = { passed: "✓", failed: "✗", skipped: "–" } as const;
/** Of two results of one test in one place (two parts), the one that counts. */
const WEIGHT: Readonly<Record<TestRecord["state"], number>> = { failed: 2, passed: 1, skipped: 0 };

/**
 * Join the results of all places.
 * @param files test files that there are: one without results is a problem, and so is a test that ran nowhere.
 * Undefined: only part of the tests was run
 */
export function merge(results: readonly PlaceResults[], files: readonly string[] | undefined): Table {
  const rows = new Map<string, Row & { readonly at: Map<Place, TestRecord> }>();
  for (const { place, records } of results) {
    for (const record of records) {
      const key = `${record.file}${SEPARATOR}${record.name}`;
      const row = rows.get(key) ?? { file: record.file, name: record.name, at: new Map<Place, TestRecord>() };
      const known = row.at.get(place);
      if (known === undefined || WEIGHT[record.state] > WEIGHT[known.state]) row.at.set(place, record);
      rows.set(key, row);
    }
  }
  const sorted = [...rows.values()].sort((a, b) => a.file.localeCompare(b.file)); // stable: keeps their order
  const records = sorted.flatMap((row) => [...row.at.values()]);
  const count = (state: TestRecord["state"]) => records.filter((record) => record.state === state).length;
  const errors = results.flatMap((r) => r.errors.map((error) => `${r.place}: ${error}`));
  const skippedEverywhere = (row: Row) => [...row.at.values()].every((record) => record.state === "skipped");
  const nowhere = files === undefined ? [] : sorted.filter(skippedEverywhere);
  const seen = new Set(sorted.map((row) => row.file));
  const missing = (files ?? []).filter((file) => !seen.has(file));
  const failures = sorted.flatMap((row) =>
    [...row.at]
      .filter(([, record]) => record.state === "failed")
      .map(([place, record]) => `${place}: ${row.file}${SEPARATOR}${row.name}\n${record.note ?? ""}`.trim()),
  );
  const again = sorted.flatMap((row) =>
    [...row.at]
      .filter(([, record]) => record.state === "passed" && record.note !== undefined)
      .map(([place, record]) => `${place}: ${row.file}${SEPARATOR}${row.name}: ${record.note}`),
  );
  return {
    places: PLACES.filter((place) => results.some((r) => r.place === place)),
    rows: sorted,
    problems: [
      ...failures,
      ...errors,
      ...nowhere.map((row) => `ran nowhere: ${row.file}${SEPARATOR}${row.name}${reasons(row)}`),
      ...missing.map((file) => `ran nowhere: ${file}`),
    ],
    again,
    passed: count("passed"),
    failed: count("failed") + errors.length + nowhere.length + missing.length,
    skipped: count("skipped") - nowhere.reduce((sum, row) => sum + row.at.size, 0),
  };
}

function reasons(row: Row): string {
  return [...row.at].map(([place, record]) => `\n  ${place}: ${record.note ?? "skipped"}`).join("");
}

/** One line for a person: reasons are in the table too, by number. */
export function markdown(table: Table): string {
  const notes: string[] = [];
  const cell = (record: TestRecord | undefined): string => {
    if (record === undefined) return "";
    if (record.state !== "skipped") return MARKS[record.state];
    const note = record.note ?? "skipped by the test";
    if (!notes.includes(note)) notes.push(note);
    return `– ${notes.indexOf(note) + 1}`;
  };
  const lines = [
    "# Tests and the places where they ran",
    "",
    "✓ passed, ✗ failed, – skipped (reasons below), blank: not part of the run there.",
    "",
  ];
  let file = "";
  for (const row of table.rows) {
    if (row.file !== file) {
      file = row.file;
      lines.push(
        "",
        `## ${file}`,
        "",
        `| test | ${table.places.join(" | ")} |`,
        `|---|${table.places.map(() => "---|").join("")}`,
      );
    }
    const cells = table.places.map((place) => cell(row.at.get(place)));
    lines.push(`| ${row.name.replaceAll("|", "\\|")} | ${cells.join(" | ")} |`);
  }
  lines.push("", "## Reasons", "", ...notes.map((note, i) => `${i + 1}. ${note}`), "");
  return lines.join("\n");
}

/** Per file and place: how many passed, failed, were skipped. */
export function compact(table: Table): string {
  const files = [...new Set(table.rows.map((row) => row.file))];
  const cells = files.map((file) => [
    file,
    ...table.places.map((place) => {
      const records = table.rows.flatMap((row) => (row.file === file ? (row.at.get(place) ?? []) : []));
      return (["passed", "failed", "skipped"] as const)
        .map((state) => [records.filter((record) => record.state === state).length, MARKS[state]] as const)
        .filter(([count]) => count > 0)
        .map(([count, mark]) => `${count} ${mark}`)
        .join(" ");
    }),
  ]);
  const all = [["", ...table.places], ...cells];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  return all
    .map((row) =>
      row
        .map((text, i) => text.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** Sources of all tests, from the project's root. */
export function allTestFiles(root: string): string[] {
  return SUITES.flatMap((suite) =>
    readdirSync(join(root, "test", suite))
      .filter((name) => name.endsWith(".test.ts"))
      .map((name) => `test/${suite}/${name}`),
  );
}

/** Write the table to a file, print its short form. @returns the exit code */
export function report(table: Table, path: string): number {
  writeFileSync(path, markdown(table));
  console.log(`\n${compact(table)}\n\nEach test: ${path}`);
  for (const line of table.again) console.log(`\n↻ ${line}`);
  for (const problem of table.problems) console.log(`\n✗ ${problem}`);
  console.log(`\n${table.passed} passed, ${table.failed} failed, ${table.skipped} skipped`);
  return table.failed > 0 ? 1 : 0;
}
