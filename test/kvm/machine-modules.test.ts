// SPDX-License-Identifier: Apache-2.0
/** Adaptation modules in running machines: shared objects and TypeScript; hypercalls, devices, exit hooks. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { Tally } from "../../examples/tally.js";
import { packageRoot } from "../../src/ffi/library.js";
import {
  type AdaptationModule,
  ArgumentError,
  Machine,
  ModuleError,
  type ModuleHandle,
  type ModuleHost,
} from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { holdings } from "../support/leaks.js";
import { busy, finish, guest, nextReset, PATIENCE, roundsOf, Transcript } from "../support/machines.js";
import { LOAD_ADDRESS, PARAMETER_MAGIC, type PayloadParameters, SCRATCH_PORT } from "../support/payloads.js";

const TALLY = join(packageRoot(), "native/build/release/tally.so");
const TALLY_JS = join(packageRoot(), "dist/examples/tally.js");

/** What the payload calls. */
const DEVICE = 1;
const PORT_GATE = 2;
const PAGE_GATE = 4;
const ALL = DEVICE | PORT_GATE | PAGE_GATE;
const STOP_PARAMETER = 4;

interface Counts {
  readonly rounds: number;
  readonly device: number;
  readonly answers: number;
  readonly unknown: number;
  readonly failed: number;
}

function counts(output: string): Counts {
  expect(output).toContain("hypercall: ok\n");
  const names = ["rounds", "device", "answers", "unknown", "failed"];
  const line = new RegExp(`^hypercall: ${names.map((name) => `${name} (\\d+)`).join(" ")}$`, "m").exec(
    output,
  );
  return Object.fromEntries(names.map((name, i) => [name, Number(line?.[i + 1])])) as unknown as Counts;
}

/** A guest that calls a module until `end` is called. */
async function endless(parameters: PayloadParameters<"hypercall"> = {}) {
  const machine = await Machine.create(guest("hypercall", { rounds: 0, ...parameters }));
  const transcript = new Transcript(machine);
  machine.start();
  await transcript.until("version 1\n");
  return {
    machine,
    transcript,
    async end(): Promise<Counts> {
      const at = LOAD_ADDRESS.flat64 + 8 + PARAMETER_MAGIC.length + 8 * STOP_PARAMETER;
      machine.memory.view(at, 8).setBigUint64(0, 1n, true);
      await machine.wait(PATIENCE);
      return counts(await transcript.ended);
    },
    [Symbol.asyncDispose]: () => machine.dispose(),
  };
}

/** Until a module was called so often. */
async function called(handle: ModuleHandle, hypercalls: number): Promise<void> {
  const before = handle.info()?.hypercalls ?? 0n;
  for (;;) {
    const info = handle.info();
    if (info === undefined || info.hypercalls >= before + BigInt(hypercalls)) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

suite("adaptation modules", { needs: ["kvm"] }, () => {
  it.each([
    ["a shared object", () => TALLY],
    ["an ES module", () => TALLY_JS],
    ["an object", () => new Tally()],
  ])(
    "%s, loaded before the start: device, hypercalls by port and by memory, exit hook",
    async (_name, module) => {
      await using machine = await Machine.create(guest("hypercall", { rounds: 50, port: 0x524 - 4 }));
      const handle = await machine.loadModule(module(), "port=0x520");
      expect(handle.info()).toMatchObject({ name: "tally", version: "1.0", state: "running", parts: 3 });
      const { output, stats } = await finish(machine);
      expect(counts(output)).toEqual({ rounds: 50, device: 50, answers: 100, unknown: 0, failed: 0 });
      const io = stats.vcpus[0]?.exits.find(({ reason }) => reason === "io")?.count ?? 0;
      // All port accesses came past the hook: two of the device and one of the gate each round, and the UART's.
      expect(handle.info()).toMatchObject({ deviceCalls: 100n, hypercalls: 100n, hookCalls: BigInt(io) });
    },
    PATIENCE,
  );

  it(
    "without one, a hypercall says so; one exit for each",
    async () => {
      await using machine = await Machine.create(guest("hypercall", { rounds: 100, calls: PORT_GATE }));
      const { output, stats } = await finish(machine);
      expect(counts(output)).toMatchObject({ answers: 0, unknown: 100 });
      await using other = await Machine.create(guest("hypercall", { rounds: 1100, calls: PORT_GATE }));
      const more = await finish(other);
      const io = (run: typeof stats) => run.vcpus[0]?.exits.find(({ reason }) => reason === "io")?.count ?? 0;
      // The longer numbers of the report cost some characters.
      expect(io(more.stats) - io(stats)).toBeGreaterThanOrEqual(1000);
      expect(io(more.stats) - io(stats)).toBeLessThan(1010);
    },
    PATIENCE,
  );

  it.each([
    ["shared objects", TALLY, ALL, [6, 10, 100]],
    ["TypeScript modules", new Tally(), ALL, [4, 10, 100]],
  ] as const)(
    "%s come and go under load, and leave nothing",
    async (_name, module, calls, [slow, short, full]) => {
      await using load = await endless({ calls });
      const rounds = roundsOf(slow, short, full);
      const round = async () => {
        const handle = await load.machine.loadModule(module);
        await called(handle, 3);
        await handle.remove();
        await handle.remove();
        expect(handle.info()).toBeUndefined();
      };
      await round();
      const before = await holdings();
      for (let i = 0; i < rounds; i++) {
        await round();
      }
      const after = await holdings();
      expect(load.machine.modules.list()).toEqual([]);
      expect(after.descriptors).toEqual(before.descriptors);
      expect(after.threads).toEqual(before.threads);
      expect(after.mappings - before.mappings).toBeLessThan(rounds / 2 + 20);
      const { answers, unknown, failed } = await load.end();
      expect(answers).toBeGreaterThanOrEqual(3 * (rounds + 1));
      expect(unknown).toBeGreaterThan(0);
      expect(failed).toBe(0);
      if (module instanceof Tally) expect(module.detached).toBe(rounds + 1);
    },
    PATIENCE,
  );

  it(
    "a TypeScript module that throws is taken out, and the machine goes on",
    async () => {
      await using load = await endless();
      const cause = new RangeError("out of paper");
      let detached = 0;
      let left = 5;
      const module: AdaptationModule = {
        name: "printer",
        attach: (host) =>
          host.addHypercall(0x100, ({ args: [a = 0n, b = 0n] }) => {
            if (left-- === 0) throw cause;
            return a + b;
          }),
        detach: () => {
          detached++;
        },
      };
      const failed = new Promise<ModuleError>((resolve) => load.machine.once("moduleFailed", resolve));
      const handle = await load.machine.loadModule(module);
      const error = await failed;
      expect(error).toBeInstanceOf(ModuleError);
      expect(error).toMatchObject({
        code: "E_MODULE",
        module: "printer",
        message: "module printer failed: out of paper",
        cause,
        hint: expect.any(String),
      });
      expect(detached).toBe(1);
      expect(handle.info()).toMatchObject({ state: "failed", parts: 0, text: "out of paper" });
      // Its number is free again.
      const tally = await load.machine.loadModule(TALLY);
      await called(tally, 2);
      await handle.remove();
      expect(load.machine.modules.list().map(({ name }) => name)).toEqual(["tally"]);
      expect(detached).toBe(1);
      const result = await load.end();
      expect(result.failed).toBe(1);
      expect(result.answers).toBeGreaterThanOrEqual(7);
    },
    PATIENCE,
  );

  it.each([
    [
      "a device",
      (host: ModuleHost, fail: () => never) =>
        host.addDevice({ space: "pio", base: SCRATCH_PORT, bytes: 1, write: fail }),
    ],
    ["an exit hook", (host: ModuleHost, fail: () => never) => host.addExitHook(fail, ["io"])],
    [
      "its own word",
      async (host: ModuleHost) => {
        setTimeout(() => host.fail(new Error("broken")), 0); // when it is loaded
      },
    ],
  ] as const)(
    "a TypeScript module fails by %s",
    async (_name, attach) => {
      await using machine = await Machine.create(busy(3));
      const transcript = new Transcript(machine);
      machine.start();
      await transcript.until("busy: ready\n");
      const failed = new Promise<ModuleError>((resolve) => machine.once("moduleFailed", resolve));
      await machine.loadModule({
        name: "bad",
        attach: (host) =>
          attach(host, () => {
            throw new Error("broken");
          }),
      });
      expect((await failed).message).toMatch(/^module bad failed: .*broken$/);
      const runs = machine.stats().vcpus[0]?.runs ?? 0;
      while ((machine.stats().vcpus[0]?.runs ?? 0) <= runs) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      expect(machine.state).toBe("running");
    },
    PATIENCE,
  );

  it(
    "hooks observe, answer, consume and stop",
    async () => {
      await using machine = await Machine.create(guest("pio", { count: 3, port: 0x700, bytes: 4, read: 1 }));
      const seen: unknown[] = [];
      await machine.loadModule({
        name: "watcher",
        attach: (host) =>
          host.addExitHook(
            (exit) => {
              if (exit.address === 0x700n) {
                seen.push(exit);
                return { answer: 0xdead_beef };
              }
              return exit.address === 0xf4n ? "stop" : "pass";
            },
            ["io", "mmio"],
          ),
      });
      const { output, info, stats } = await finish(machine);
      expect(output).toContain("last 0xdeadbeef\n");
      expect(seen).toEqual(
        Array(3).fill({
          vcpu: 0,
          reason: "io",
          write: false,
          address: 0x700n,
          bytes: 4,
          count: 1,
          value: 0xffff_ffff_ffff_ffffn,
          detail: 0n,
        }),
      );
      expect(info).toMatchObject({ state: "stopped", cause: "request", text: "stopped by an exit hook" });
      expect(stats.vcpus[0]?.unclaimedPio).toBe(0);
    },
    PATIENCE,
  );

  it(
    "modules stay over a reset of the guest, and are told",
    async () => {
      await using load = await endless();
      const c = await load.machine.loadModule(TALLY, "port=0x620");
      await called(c, 2);
      let resets = 0;
      const module: AdaptationModule = {
        name: "resettable",
        attach: (host) => host.addHypercall(0x101, () => 0),
        reset: () => {
          resets++;
        },
      };
      await load.machine.loadModule(module);
      const reset = nextReset(load.machine);
      load.machine.reset();
      await reset;
      await called(c, 2);
      expect(resets).toBe(1);
      expect(load.machine.modules.list()).toMatchObject([
        { name: "tally", state: "running" },
        { name: "resettable", state: "running" },
      ]);
      expect((await load.end()).answers).toBeGreaterThan(0);
    },
    PATIENCE,
  );

  it(
    "says what is wrong with a module, and leaves the machine as it was",
    async () => {
      await using machine = await Machine.create(guest("hypercall", { rounds: 10 }));
      const refused = (module: Parameters<Machine["loadModule"]>[0], args?: string) =>
        expect(machine.loadModule(module, args)).rejects;
      await refused("/nowhere/tally.so").toMatchObject({
        code: "E_IO",
        message: expect.stringMatching(/cannot open module.*No such/),
      });
      await refused("/nowhere/tally.js").toThrow(/cannot import module \/nowhere\/tally.js/);
      await refused(join(packageRoot(), "native/build/release/libvmmhpc-unpack.so")).toMatchObject({
        code: "E_BAD_IMAGE",
        message: "not the descriptor of a module",
      });
      await refused(TALLY, "speed=3").toMatchObject({
        code: "E_STATE",
        message: "module tally did not start: the only argument is port=N",
      });
      await refused(TALLY_JS, "speed=3").toThrow("the only argument is port=N");
      await refused(TALLY, "port=0x3f8").toThrow(
        /did not start: device range 0x3f8-0x3ff overlaps 0x3f8-0x3ff/,
      );
      await refused(new Tally(), "port=0x3f8").toMatchObject({ code: "E_OVERLAP" });
      await refused("node:path").toThrow(/node:path is not a module/);
      await refused({ name: "a b", attach: () => {} }).toMatchObject({ code: "E_INVALID" });
      await refused({ name: "m", attach: (host) => host.addHypercall(5, () => 0) }).toThrow(ArgumentError);
      await refused({ name: "m", attach: (host) => host.addExitHook(() => "pass", ["nap"]) }).toThrow(
        "there is no exit reason nap",
      );
      await refused({ name: "m", attach: (host) => host.fail("not today") }).toThrow(
        "module m failed: not today",
      );
      await refused({
        name: "m",
        attach: (host) => {
          void host.addDevice({ space: "mmio", base: 0, bytes: 4096 }); // nobody waits for it
        },
      }).toMatchObject({ code: "E_OVERLAP" });
      expect(machine.modules.list()).toEqual([]);
      await machine.loadModule(TALLY);
      expect(counts((await finish(machine)).output).answers).toBe(20);
    },
    PATIENCE,
  );

  it(
    "dispose with modules loaded, before the start and while they are called",
    async () => {
      const idle = await Machine.create(guest("hypercall"));
      const module = new Tally();
      await idle.loadModule(TALLY, "port=0x620");
      await idle.loadModule({ name: "empty", attach: () => {}, detach: () => module.detach() });
      await idle.dispose();
      expect(module.detached).toBe(1);
      for (const what of [TALLY, new Tally()]) {
        const load = await endless();
        const handle = await load.machine.loadModule(what);
        await called(handle, 1);
        await load.machine.dispose();
        await handle.remove();
        if (what instanceof Tally) expect(what.detached).toBe(1);
        await expect(load.machine.loadModule(TALLY)).rejects.toMatchObject({ code: "E_CLOSED" });
      }
    },
    PATIENCE,
  );
});
