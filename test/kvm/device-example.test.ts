// SPDX-License-Identifier: Apache-2.0
/** The devices of docs/how-to/add-a-device.md. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { runAdder } from "../../examples/adder.js";
import { packageRoot } from "../../src/ffi/library.js";
import { suite } from "../support/capabilities.js";

suite("examples/adder", { needs: ["kvm"] }, () => {
  it("adds in C", () => {
    const text = execFileSync(join(packageRoot(), "native/build/release/adder"), { encoding: "utf8" });
    expect(text).toBe("10 additions, sum 55\n");
  });

  it("adds in TypeScript", async () => {
    const { count, sum } = await runAdder();
    expect([count, sum]).toEqual([10n, 55n]);
  });
});
