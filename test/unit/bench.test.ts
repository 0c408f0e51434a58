// SPDX-License-Identifier: Apache-2.0
/** The parts of the benchmarks that compute and format. */
import { describe, expect, test } from "vitest";
import { parseTrace } from "../../bench/boot/trace.js";
import { guestImage } from "../../bench/exit/guest.js";
import { plot } from "../../bench/lib/svg.js";
import { table } from "../../bench/lib/table.js";
import { rotated, short, summarize } from "../../src/measure/statistics.js";
import { evaluate } from "../support/c-layout.js";

describe("benchmark results", () => {
  test("medians", () => {
    expect(summarize([3, 1, 2])).toEqual({ count: 3, median: 2, min: 1, max: 3 });
    expect(summarize([4, 1, 2, 3]).median).toBe(2.5);
    expect(() => summarize([])).toThrow(RangeError);
  });

  test("three digits", () => {
    expect([0.5, 1.2345, 123.4, Number.NaN].map(short)).toEqual(["0.500", "1.23", "123", "-"]);
  });

  test("each contender comes first in turn", () => {
    expect([0, 1, 2, 3].map((round) => rotated(["a", "b", "c"], round).join(""))).toEqual([
      "abc",
      "bca",
      "cab",
      "abc",
    ]);
    expect(rotated([], 3)).toEqual([]);
  });

  test("tables", () => {
    expect(
      table(
        ["", "n"],
        [
          ["one", "1"],
          ["three", "333"],
        ],
      ),
    ).toBe("         n\n-----  ---\none      1\nthree  333");
  });

  test("plots", () => {
    const svg = plot(
      "a < b",
      [
        {
          title: "t",
          unit: "s",
          bars: [
            { label: "x", values: [1, 2], own: true },
            { label: "y", values: [], own: false },
          ],
        },
      ],
      "now",
    );
    expect(svg).toContain("a &lt; b");
    expect(svg.match(/<circle/g)).toHaveLength(2);
    expect(svg).toContain("not measured");
  });

  test("traces", () => {
    const line = (event: string, at = 12.5) => `  vcpu0-203 [000] d.... ${at.toFixed(6)}: ${event}`;
    const histogram = parseTrace(
      [
        line("kvm_entry: vcpu 0, rip 0xffffffff81073900", 12.25),
        line("kvm_exit: vcpu 0 reason msr rip 0xffffffff81073914 info1 0x1 info2 0x0"),
        line("kvm_exit: vcpu 0 reason interrupt rip 0xffffffff81073915 info1 0x0 info2 0x0"),
        line("kvm_msr: msr_write 6e0 = 0x12345"),
        line("kvm_cpuid: func 40000000 idx 0 rax 1 rbx 2 rcx 3 rdx 4, cpuid entry found"),
        line("kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x56"),
        line("kvm_mmio: mmio write len 4 gpa 0xfec00000 val 0x10"),
        "# tracer: nop",
      ].join("\n"),
    );
    expect(histogram).toEqual({
      guestSeconds: 0.25,
      reasons: { msr: 1, interrupt: 1 },
      msrs: { "write 6e0": 1 },
      cpuids: { "40000000": 1 },
      ports: { "write 0x3f8/1": 1 },
      mmio: { "write 0xfec00000": 1 },
      places: { "msr 0xffffffff81073914": 1 },
    });
  });
});

describe("the guest of the exit benchmark", () => {
  test("is the same in C and in TypeScript", () => {
    const image = guestImage(0x01020304, 0x0a0b0c0d);
    const header = `"${new URL("../../native/tools/exit-guest.h", import.meta.url).pathname}"`;
    const byte = (at: number) =>
      `({ uint8_t image[EXIT_GUEST_BYTES]; exit_guest(image, 0x01020304, 0x0a0b0c0d); image[${at}]; })`;
    const expressions = ["EXIT_GUEST_BYTES", ...[...image.keys()].map(byte)];
    const values = evaluate([header], expressions);
    expect(expressions.map((expression) => Number(values.get(expression)))).toEqual([image.length, ...image]);
  });
});
