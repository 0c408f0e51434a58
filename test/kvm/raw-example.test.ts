// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { tinyHypervisor } from "../../examples/tiny-hypervisor.js";
import { packageRoot } from "../../src/ffi/library.js";
import { suite } from "../support/capabilities.js";

suite("examples/tiny-hypervisor.ts", { needs: ["kvm"] }, () => {
  it("runs its guest to the end", () => {
    let text = "";
    const answer = tinyHypervisor((more) => {
      text += more;
    });
    expect(text).toBe("Hello from a guest, run by TypeScript!");
    expect(answer).toBe(42n);
  });

  it("has at most 60 lines", () => {
    const source = readFileSync(join(packageRoot(), "examples/tiny-hypervisor.ts"), "utf8");
    expect(source.trimEnd().split("\n").length).toBeLessThanOrEqual(60);
  });
});
