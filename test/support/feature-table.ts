// SPDX-License-Identifier: Apache-2.0
/**
 * The README's table of back ends and their features, made of the results of the conformance suite.
 *
 *     scripts/feature-table            write it, from results/*.json
 *     scripts/feature-table --check    say what in it the results contradict
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FEATURES } from "../../src/vmm/backend.js";
import { PLACES, type Place } from "./places.js";
import { type PlaceResults, readResultsFile, SEPARATOR, type TestRecord } from "./reporter-results.js";

export const CONFORMANCE = "test/nested/conformance.test.ts";
/** What the test of a "no" is called. */
export const REFUSED = "is refused with the typed error, and nothing changes";

const BEGIN = "<!-- features: written by scripts/feature-table from the results of the conformance suite -->";
const END = "<!-- end of features -->";
/** Types that refuse everything share a line below the table. */
const NOTHING_YET = "Not available yet: ";

/** What the results say of one feature of one back end. */
export interface Cell {
  readonly answer: "yes" | "no" | "failed";
  /** Where it was shown. */
  readonly places: readonly Place[];
}

/** By type, then by feature. What ran nowhere has no cell. */
export type FeatureTable = ReadonlyMap<string, ReadonlyMap<string, Cell>>;

const PLACE_NAMES: Readonly<Record<Place, string>> = {
  host: "any host",
  amd: "nested AMD",
  intel: "nested Intel",
  "host-kvm": "KVM host",
};

export function featureTable(results: readonly PlaceResults[]): FeatureTable {
  const found = new Map<string, Map<string, [Place, TestRecord][]>>();
  for (const { place, records } of results) {
    for (const record of records) {
      const [type = "", feature = ""] = record.name.split(SEPARATOR);
      if (record.file !== CONFORMANCE || !FEATURES.some((known) => known === feature)) continue;
      const ofType = found.get(type) ?? new Map<string, [Place, TestRecord][]>();
      found.set(type, ofType);
      ofType.set(feature, [...(ofType.get(feature) ?? []), [place, record]]);
    }
  }
  return new Map([...found].map(([type, features]) => [type, cells(features)]));
}

function cells(features: ReadonlyMap<string, readonly [Place, TestRecord][]>): Map<string, Cell> {
  const result = new Map<string, Cell>();
  for (const [feature, records] of features) {
    const ran = records.filter(([, { state }]) => state !== "skipped");
    if (ran.length === 0) continue;
    const failed = ran.some(([, { state }]) => state === "failed");
    const refused = ran.some(([, { name }]) => name.endsWith(REFUSED));
    const places = PLACES.filter((place) => ran.some(([at]) => at === place));
    result.set(feature, { answer: failed ? "failed" : refused ? "no" : "yes", places });
  }
  return result;
}

/** The lines between the README's marks. */
export function featureMarkdown(table: FeatureTable): string {
  const types = [...table.keys()];
  const some = types.filter((type) =>
    [...(table.get(type)?.values() ?? [])].some(({ answer }) => answer !== "no"),
  );
  const none = types.filter((type) => !some.includes(type));
  const cell = (type: string, feature: string) => {
    const { answer, places } = table.get(type)?.get(feature) ?? {};
    if (answer === undefined) return "–";
    return answer === "yes" ? `yes: ${places?.map((place) => PLACE_NAMES[place]).join(", ")}` : answer;
  };
  return [
    `| feature | ${some.join(" | ")} |`,
    `|---|${some.map(() => "---|").join("")}`,
    ...FEATURES.map((feature) => `| ${feature} | ${some.map((type) => cell(type, feature)).join(" | ")} |`),
    "",
    ...(none.length === 0 ? [] : [`${NOTHING_YET}${none.join(", ")}.`, ""]),
  ].join("\n");
}

/** What the README says: by type, then by feature, `yes` or `no`. */
export function readmeFeatures(readme: string): Map<string, Map<string, string>> {
  const text = readme.split(BEGIN)[1]?.split(END)[0] ?? "";
  const rows = text.split("\n").filter((line) => line.startsWith("| "));
  const [head = [], ...lines] = rows.map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((word) => word.trim()),
  );
  const said = new Map<string, Map<string, string>>();
  for (const [column, type] of head.entries()) {
    if (column === 0) continue;
    said.set(type, new Map(lines.map((line) => [line[0] ?? "", (line[column] ?? "").split(":")[0] ?? ""])));
  }
  for (const type of /^Not available yet: (.*)\.$/m.exec(text)?.[1]?.split(", ") ?? []) {
    said.set(type, new Map(FEATURES.map((feature) => [feature, "no"])));
  }
  return said;
}

/** What in the README the results contradict, a line each; what did not run contradicts nothing. */
export function contradictions(readme: string, table: FeatureTable): string[] {
  const said = readmeFeatures(readme);
  return [...table].flatMap(([type, features]) =>
    [...features].flatMap(([feature, { answer }]) => {
      const word = said.get(type)?.get(feature) ?? "nothing";
      const same = word === answer || answer === "failed"; // a failure is reported by itself
      return same ? [] : [`README.md says ${word} to ${feature} of ${type}, the results say ${answer}`];
    }),
  );
}

/** The README with another table. */
export function withFeatures(readme: string, markdown: string): string {
  const [before, rest] = readme.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error("README.md has no marks for the table");
  return `${before}${BEGIN}\n${markdown}${END}${after}`;
}

/** All that a run left in a directory, and what the nested machines brought back. */
export function readAllResults(directory: string): PlaceResults[] {
  const files = readdirSync(directory, { recursive: true, encoding: "utf8" });
  return files
    .filter((name) => /^((amd|amd-guests|intel)\.out\/)?[\w.-]+\.json$/.test(name))
    .flatMap((name) => readResultsFile(join(directory, name)) ?? [])
    .filter(({ records }) => Array.isArray(records));
}

/** @returns the exit code */
function main(args: readonly string[]): number {
  const table = featureTable(readAllResults("results"));
  const readme = readFileSync("README.md", "utf8");
  if (!args.includes("--check")) {
    writeFileSync("README.md", withFeatures(readme, featureMarkdown(table)));
    return 0;
  }
  const wrong = contradictions(readme, table);
  for (const line of wrong) console.error(line);
  return wrong.length === 0 ? 0 : 1;
}

if (fileURLToPath(import.meta.url) === process.argv[1]) process.exitCode = main(process.argv.slice(2));
