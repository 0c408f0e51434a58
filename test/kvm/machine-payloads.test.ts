// SPDX-License-Identifier: Apache-2.0
/** Every payload through Machine: what it must print, and what KVM and libvmmhpc counted for it. */
import { expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import {
  type GuestOptions,
  guest,
  nextReset,
  PATIENCE,
  type Run,
  run,
  withRunning,
} from "../support/machines.js";
import { type PayloadName, type PayloadParameters, payloadNames } from "../support/payloads.js";
import { currentPlace } from "../support/places.js";

interface Case<N extends PayloadName = PayloadName> {
  readonly name: N;
  readonly what: string;
  readonly parameters?: PayloadParameters<N>;
  readonly options?: GuestOptions;
  /** All that it prints before its `ok`. */
  readonly output: string | RegExp;
}

const cases: Case[] = [];
function ends<N extends PayloadName>(
  name: N,
  what: string,
  output: string | RegExp,
  parameters?: PayloadParameters<N>,
  options?: GuestOptions,
): void {
  cases.push({
    name,
    what,
    output,
    ...(parameters && { parameters: parameters as never }),
    ...(options && { options }),
  });
}

ends("hello", "64-bit code", "Hello from V3M in 64-bit mode\n");
ends("hello16", "real mode", "Hello from V3M in real mode\n");
ends("modes16", "real mode, protected mode, long mode", "modes16: real\nmodes16: protected\nmodes16: long\n");
for (const bytes of [1, 2, 4]) {
  ends("pio", `ports of ${bytes} bytes`, "pio: count 20 last 0x42\n", { count: 20, bytes });
  ends("string", `string output of ${bytes} bytes`, `string: bytes ${60 * bytes} sum ${sum(60 * bytes)}\n`, {
    count: 60,
    bytes,
  });
}
ends("pio", "reads of ports where nothing is", "pio: count 3 last 0xffff\n", { count: 3, bytes: 2, read: 1 });
ends("string", "string input from nowhere", `string: bytes 40 sum ${40 * 255}\n`, {
  count: 10,
  bytes: 4,
  read: 1,
});
ends("mmio", "memory-mapped accesses of all sizes", /^mmio: accesses 40 sum 0x[0-9a-f]+\n$/, { count: 5 });
ends("halt", "halts and wakes by its timer", "halt: ready\nhalt: wake-ups 5\n", { count: 5 });
ends("timer", "timers", /^timer: one-shot 3\ntimer: periodic 3\ntimer: deadline (3|absent)\n$/, { count: 3 });
ends("fault", "page faults", "fault: faults 16\n", { pages: 8 });
ends("ring3", "ring 3", /ring3: denied exception 13\nring3: privileged exception 13\n$/);
ends("compute", "arithmetic", /^compute: rounds 1000 result 0x[0-9a-f]+\n$/, { rounds: 1000 });
ends("memory", "memory", "memory: pages 14\n", { step: 1 << 20 });
ends("smp", "2 vCPUs", "smp: cpus 2\nsmp: interrupts 3\n", { cpus: 2, rounds: 3 }, { cpus: 2 });
ends("smp", "4 vCPUs", "smp: cpus 4\nsmp: interrupts 6\n", { cpus: 4, rounds: 2 }, { cpus: 4 });
for (const name of ["boot-pvh", "boot-linux", "boot-linux-elf"] as const) {
  ends(
    name,
    "command line, initrd, RSDP, memory map",
    /^boot: (pvh|linux)\nboot: command line 'a b=c'\nboot: module bytes 3 sum 6\nboot: rsdp 0xe0000\nboot: ram KiB 15999\n$/,
  );
}
for (const name of ["boot-multiboot", "boot-multiboot32", "boot-multiboot64"] as const) {
  ends(
    name,
    "command line, module, memory map",
    /^boot: multiboot\nboot: command line 'a b=c'\nboot: module bytes 3 sum 6\nboot: ram KiB 15999\n$/,
  );
}

/** Of the bytes 0, 1 … 255, 0 … */
function sum(bytes: number): number {
  return Array.from({ length: bytes }, (_, i) => i & 0xff).reduce((a, b) => a + b, 0);
}

function expectOk({ output, info, stats }: Run, name: string, before: string | RegExp): void {
  const ok = `${name.startsWith("boot-") ? "boot" : name}: ok\n`;
  expect(output.slice(-ok.length), output).toBe(ok);
  const rest = output.slice(0, -ok.length);
  if (typeof before === "string") {
    expect(rest).toBe(before);
  } else {
    expect(rest).toMatch(before);
  }
  expect(info).toMatchObject({ state: "stopped", cause: "poweroff", text: "the guest powered off" });
  expect(stats.console).toMatchObject({ out: output.length, dropped: 0 });
}

suite("payloads", { needs: ["kvm"] }, () => {
  for (const { name, what, parameters, options, output } of cases) {
    it(
      `${name}: ${what}`,
      async () => {
        const boot = name.startsWith("boot-") ? { cmdline: "a b=c", initrd: Uint8Array.of(1, 2, 3) } : {};
        expectOk(await run(guest(name, parameters as never, { ...boot, ...options })), name, output);
      },
      PATIENCE,
    );
  }

  it(
    "cpuid: topology of 2 sockets of 1 core with 2 threads",
    async () => {
      const options = { cpus: 4, coresPerSocket: 1, threadsPerCore: 2 };
      const shown = currentPlace() === "intel" ? 1 : 4; // there no AP may wait in a loop (see busy())
      const { output } = await run(guest("cpuid", { cpus: shown }, options));
      const leaves = output
        .split("\n")
        .filter((line) => line.startsWith("cpuid 0x"))
        .map((line) => line.split(" ").slice(1).map(Number));
      const at = (cpu: number, leaf: number, subleaf = 0) =>
        leaves.find(([c, l, s]) => c === cpu && l === leaf && s === subleaf)?.slice(3) ?? [];
      // APs are numbered as they come up.
      const ids = Array.from({ length: shown }, (_, cpu) => {
        const id = (at(cpu, 1)[1] ?? 0) >>> 24;
        expect(at(cpu, 0xb, 0)).toEqual([1, 2, 0x100, id]);
        expect(at(cpu, 0xb, 1)).toEqual([1, 2, 0x201, id]);
        return id;
      });
      expect(ids.sort()).toEqual([0, 1, 2, 3].slice(0, shown));
    },
    PATIENCE,
  );

  it.each([0, 1, 2] as const)(
    "echo: mode %i",
    async (mode) => {
      const text = "The quick brown fox jumps over the lazy dog. 0123456789\n".repeat(3);
      await withRunning(guest("echo", { mode }), "echo: ready\n", async (machine, transcript) => {
        machine.console.write(`${text}\x04`);
        await machine.wait(PATIENCE);
        expect(await transcript.ended).toBe(`echo: ready\n${text}\necho: bytes ${text.length}\necho: ok\n`);
        expect(machine.stats().console.in).toBe(text.length + 1);
      });
    },
    PATIENCE,
  );

  it.each([0, 1, 2] as const)(
    "reset: method %i boots again, again and again",
    async (method) => {
      await withRunning(guest("reset", { method }), "reset", async (machine, transcript) => {
        const counts = [await nextReset(machine), await nextReset(machine)];
        expect(counts[1]).toBe((counts[0] ?? 0) + 1);
        const info = await machine.stop();
        expect(info).toMatchObject({ state: "stopped", cause: "request" });
        expect(machine.stats().resets).toBeGreaterThanOrEqual(2);
        const output = await transcript.ended;
        expect(output).toMatch(new RegExp(`^(reset: method ${method}\n){2,}`));
      });
    },
    PATIENCE,
  );

  it(
    "reset: stops the machine where onReset says so",
    async () => {
      const { output, info, stats } = await run(guest("reset", {}, { onReset: "stop" }));
      expect(output).toBe("reset: method 0\n");
      expect(info).toMatchObject({ state: "stopped", cause: "reset" });
      expect(stats.resets).toBe(0);
    },
    PATIENCE,
  );

  it("every payload is run by some test", () => {
    const elsewhere = ["shm", "peers", "echo", "reset", "cpuid", "triple", "busy", "hypercall", "garbage"]; // above, and in other files
    const covered = new Set([...cases.map(({ name }) => name), ...elsewhere]);
    expect(payloadNames.filter((name) => !covered.has(name))).toEqual([]);
  });
});
