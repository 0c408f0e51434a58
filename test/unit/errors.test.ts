// SPDX-License-Identifier: Apache-2.0
/** docs/reference/errors.md has every error code, and the exit code that it leads to. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { V3mError } from "../../src/errors.js";
import { packageRoot } from "../../src/package-root.js";
import { exitCodeOf } from "../../src/v2m/exit-codes.js";

const DOCS = join(packageRoot(), "docs/reference/errors.md");

function table(): Map<string, number> {
  const rows = readFileSync(DOCS, "utf8").matchAll(/^\| `(E_[A-Z_]+)` \| (\d+) \| .+ \|$/gm);
  return new Map([...rows].map(([, code = "", exit]) => [code, Number(exit)]));
}

function sources(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(join(directory, name), "utf8"));
}

describe("the table of error codes", () => {
  it("has every code of the sources, in order, and no other", () => {
    const used = new Set<string>();
    for (const text of sources(join(packageRoot(), "src"))) {
      // As a string, and in front of the bracket that closes a message.
      for (const [, code = ""] of text.matchAll(/["[](E_[A-Z_]+)["\]]/g)) used.add(code);
    }
    expect([...table().keys()].sort()).toEqual([...used].sort());
    const codes = [...table().keys()];
    expect(codes).toEqual(codes.toSorted((a, b) => a.localeCompare(b, "en")));
  });

  it("has their exit codes", () => {
    for (const [code, exit] of table()) expect(exitCodeOf(new V3mError(code, "")), code).toBe(exit);
  });
});
