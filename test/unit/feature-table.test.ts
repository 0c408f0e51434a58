// SPDX-License-Identifier: Apache-2.0
/** The README's table of features: it says what the back ends' matrices say, and results can contradict it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/package-root.js";
import { builtinRegistry } from "../../src/v3m/builtin.js";
import { FEATURES } from "../../src/vmm/backend.js";
import {
  CONFORMANCE,
  contradictions,
  featureMarkdown,
  featureTable,
  readmeFeatures,
  withFeatures,
} from "../support/feature-table.js";
import type { TestRecord, TestState } from "../support/reporter-results.js";

const readme = readFileSync(join(packageRoot(), "README.md"), "utf8");

function record(name: string, state: TestState): TestRecord {
  return { file: CONFORMANCE, name, state, ms: 1 };
}

const results = [
  {
    place: "host" as const,
    errors: [],
    records: [
      record("Qemu > pause > it stops", "passed"),
      record("Qemu > disks > first", "passed"),
      record("Qemu > disks > second", "failed"),
      record("Qemu > vsock > it talks", "skipped"),
      record("Qemu > fork > is refused with the typed error, and nothing changes", "passed"),
      record("Xen > pause > is refused with the typed error, and nothing changes", "passed"),
      record("Qemu > matrix > promises nothing", "passed"),
      { ...record("Other > pause > it stops", "passed"), file: "test/nested/other.test.ts" },
    ],
  },
  { place: "amd" as const, errors: [], records: [record("Qemu > pause > it stops", "passed")] },
];

describe("the README's table of features", () => {
  it("says what the matrices say", async () => {
    const registry = builtinRegistry();
    const host = {
      definition: () => Promise.reject(new Error("no VM is needed")),
      stateDirectory: () => "/nowhere",
      runtimeDirectory: () => "/nowhere",
    };
    const said = readmeFeatures(readme);
    expect([...said.keys()].sort()).toEqual([...registry.types].sort());
    for (const type of registry.types) {
      const { capabilities } = await (await registry.get(type, host)).probe();
      const matrix = FEATURES.map((feature) => [
        feature,
        capabilities[feature].supported === "no" ? "no" : "yes",
      ]);
      expect([...(said.get(type) ?? [])], type).toEqual(matrix);
    }
  });

  it("is made of results: shown where, refused, failed, or not run", () => {
    const table = featureTable(results);
    expect([...table.keys()]).toEqual(["Qemu", "Xen"]);
    const lines = featureMarkdown(table).split("\n");
    expect(lines).toContain("| pause | yes: any host, nested AMD |");
    expect(lines).toContain("| disks | failed |");
    expect(lines).toContain("| vsock | – |");
    expect(lines).toContain("| fork | no |");
    expect(lines).toContain("Not available yet: Xen.");
  });

  it("is contradicted by results that say something else, and by nothing else", () => {
    const table = featureTable(results);
    const same = withFeatures(readme, featureMarkdown(table));
    expect(contradictions(same, table)).toEqual([]);
    expect(withFeatures(same, featureMarkdown(table))).toBe(same);
    const lying = same.replace("| pause | yes: any host, nested AMD |", "| pause | no |");
    expect(contradictions(lying, table)).toEqual(["README.md says no to pause of Qemu, the results say yes"]);
    expect(contradictions("nothing", table)).toHaveLength(3);
  });
});
