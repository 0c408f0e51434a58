// SPDX-License-Identifier: Apache-2.0
/** What cannot be had is refused with a code, a sentence and a hint; nothing runs and nothing is left. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { hostFacts, Machine, type MachineOptions, V3mError } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { guest, PATIENCE, run } from "../support/machines.js";
import { payloadPath } from "../support/payloads.js";

const MIB = 1 << 20;

async function refusal(options: MachineOptions): Promise<V3mError> {
  try {
    await using machine = await Machine.create(options);
    throw new Error(`a machine was made: ${machine.kind}`);
  } catch (error) {
    if (error instanceof V3mError) return error;
    throw error;
  }
}

const file = (bytes: Uint8Array | string): MachineOptions => ({
  memory: 16 * MIB,
  kernel: Buffer.from(bytes),
});

/** What is wrong, options, code, part of the message. */
const cases: readonly (readonly [string, () => MachineOptions, string, string])[] = [
  ["no vCPU", () => guest("hello", {}, { cpus: 0 }), "E_INVALID", "a machine needs at least one vCPU"],
  ["less than no vCPU", () => guest("hello", {}, { cpus: -1 }), "E_INVALID", "at least 0"],
  ["half a vCPU", () => guest("hello", {}, { cpus: 1.5 }), "E_INVALID", "a whole number, not 1.5"],
  ["too many vCPUs", () => guest("hello", {}, { cpus: 100_000 }), "E_LIMIT", "100000 vCPUs are more than"],
  ["absurdly many vCPUs", () => guest("hello", {}, { cpus: 2 ** 32 }), "E_INVALID", "too large"],
  [
    "sockets that are not full",
    () => guest("hello", {}, { cpus: 3, coresPerSocket: 2 }),
    "E_INVALID",
    "do not fill",
  ],
  [
    "threads that are not full",
    () => guest("hello", {}, { cpus: 3, threadsPerCore: 2 }),
    "E_INVALID",
    "do not fill",
  ],
  ["no memory", () => guest("hello", {}, { memory: 0 }), "E_INVALID", "not a positive multiple"],
  [
    "no memory regions",
    () => guest("hello", {}, { memory: [] }),
    "E_INVALID",
    "1 to 16 memory regions, not 0",
  ],
  [
    "too little memory",
    () => guest("hello", {}, { memory: 65536 }),
    "E_INVALID",
    "64 KiB of memory is too small",
  ],
  [
    "memory of odd size",
    () => guest("hello", {}, { memory: 4 * MIB + 1 }),
    "E_INVALID",
    "not a positive multiple",
  ],
  [
    "more memory than the host has",
    () => guest("hello", {}, { memory: 1n << 44n }),
    "E_NO_MEMORY",
    "more than this host has",
  ],
  ["absurdly much memory", () => guest("hello", {}, { memory: 1n << 62n }), "E_NO_MEMORY", "more than"],
  [
    "memory beyond 64 bits",
    () => guest("hello", {}, { memory: (1n << 64n) + 4096n }),
    "E_INVALID",
    "too large",
  ],
  [
    "too many regions",
    () => guest("hello", {}, { memory: Array(17).fill({ bytes: 2 * MIB }) }),
    "E_LIMIT",
    "1 to 16 memory regions, not 17",
  ],
  ["no such file", () => ({ kernel: "/nowhere/vmlinuz" }), "E_IO", "/nowhere/vmlinuz"],
  ["a directory as kernel", () => ({ kernel: "/usr" }), "E_IO", "/usr"],
  ["an empty kernel", () => file(""), "E_INVALID", "the kernel is empty"],
  ["text as kernel", () => file("#!/bin/sh\necho this is no kernel\n".repeat(50)), "E_BAD_IMAGE", ""],
  ["an ELF file that ends early", () => file("\x7fELF\x02\x01\x01"), "E_TRUNCATED", ""],
  ["a flat image outside RAM", () => ({ ...guest("hello"), loadAddress: 1 << 30 }), "E_NO_ROOM", ""],
  [
    "a flat image without its kind",
    () => ({ memory: 16 * MIB, kernel: Buffer.alloc(64, 0xf4) }),
    "E_BAD_IMAGE",
    "",
  ],
  [
    "an initrd that is not there",
    () => ({ ...guest("boot-pvh"), initrd: "/nowhere/initrd" }),
    "E_IO",
    "initrd",
  ],
  [
    "an initrd that does not fit",
    () => ({ ...guest("boot-pvh"), memory: 4 * MIB, initrd: new Uint8Array(5 * MIB) }),
    "E_NO_ROOM",
    "initrd",
  ],
  [
    "a command line that is too long",
    () => ({ ...guest("boot-pvh"), cmdline: "x".repeat(70_000) }),
    "E_NO_ROOM",
    "",
  ],
  ["no /dev/kvm", () => ({ ...guest("hello"), kvmPath: "/nowhere/kvm" }), "E_NO_KVM", "/nowhere/kvm"],
  [
    "a /dev/kvm that is none",
    () => ({ ...guest("hello"), kvmPath: "/dev/null" }),
    "E_NO_KVM",
    "is not a KVM device",
  ],
];

suite("limits", { needs: ["kvm"] }, () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-limits-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  for (const [what, options, code, text] of cases) {
    it(`${what}: ${code}`, async () => {
      const error = await refusal(options());
      expect(error).toMatchObject({ code, message: expect.stringContaining(text) });
      expect(error.message).not.toBe("");
      if (code !== "E_INVALID" || error.name === "VmmError") {
        expect(error.hint, error.message).toMatch(/\w/);
      }
    });
  }

  it("a kernel file that was cut short says so", async () => {
    const { readFileSync } = await import("node:fs");
    const whole = readFileSync(payloadPath("boot-pvh"));
    const path = join(directory, "cut");
    writeFileSync(path, whole.subarray(0, whole.length / 2));
    expect(await refusal({ memory: 16 * MIB, kernel: path })).toMatchObject({ code: "E_TRUNCATED" });
    writeFileSync(path, "");
    expect(await refusal({ memory: 16 * MIB, kernel: path })).toMatchObject({ code: "E_TRUNCATED" });
  });

  it(
    "as many vCPUs as two are more than one, and an odd topology works",
    async () => {
      const { max_vcpus: most } = hostFacts();
      expect(most).toBeGreaterThanOrEqual(4);
      const { output } = await run(guest("smp", { cpus: 3 }, { cpus: 3, coresPerSocket: 3 }));
      expect(output).toContain("smp: cpus 3");
    },
    PATIENCE,
  );
});
