// SPDX-License-Identifier: Apache-2.0
/** The life of a machine: start, pause, resume, stop and dispose, from every state and in every order. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { ClosedError, Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import {
  busy,
  finish,
  guest,
  nextReset,
  PATIENCE,
  roundsOf,
  Transcript,
  withRunning,
} from "../support/machines.js";

const ROUNDS = roundsOf(50, 500, 500);

/** Guests that never end, by what their vCPU does. */
const STATES = [
  ["spins", 0, 1],
  ["halts for ever", 1, 1],
  ["halts and wakes", 2, 1],
  ["exits all the time", 3, 1],
  ["spins, with two vCPUs that never started", 0, 3],
] as const;

suite("life of a machine", { needs: ["kvm"] }, () => {
  it.each(STATES)(
    "a guest that %s: pauses, resumes, stops",
    async (_what, mode, cpus) => {
      await withRunning(busy(mode, { cpus }), "busy: ready\n", async (machine) => {
        const states: string[] = [];
        machine.on("state", (state) => states.push(state));
        for (let i = 0; i < 3; i++) {
          await machine.pause();
          expect(machine.state).toBe("paused");
          const { runs } = machine.stats().vcpus[0] ?? {};
          await expect(machine.pause()).rejects.toMatchObject({ code: "E_STATE" });
          expect(machine.stats().vcpus[0]?.runs).toBe(runs); // it stands still
          machine.resume();
          expect(machine.state).toBe("running");
          expect(() => machine.resume()).toThrow(expect.objectContaining({ code: "E_STATE" }));
        }
        expect(await machine.stop()).toMatchObject({ state: "stopped", cause: "request" });
        expect(states.slice(-7)).toEqual([...Array(3).fill(["paused", "running"]).flat(), "stopped"]);
      });
    },
    PATIENCE,
  );

  it(
    "many rounds of pause and resume: no kick is lost, and none is left over",
    async () => {
      await withRunning(busy(3, { cpus: 2 }), "busy: ready\n", async (machine) => {
        for (let i = 0; i < ROUNDS; i++) {
          await machine.pause();
          machine.resume();
        }
        const runs = () => machine.stats().vcpus[0]?.runs ?? 0;
        await machine.pause();
        const before = runs();
        machine.resume();
        while (runs() === before) {
          await sleep(1); // until the test's time is up: it must still get somewhere
        }
        await machine.pause();
        expect(runs()).toBeGreaterThan(before);
      });
    },
    PATIENCE,
  );

  it(
    "a paused machine stops, and one that pauses just then too",
    async () => {
      await withRunning(busy(0), "busy: ready\n", async (machine) => {
        await machine.pause();
        expect(await machine.stop()).toMatchObject({ state: "stopped", cause: "request" });
      });
      await withRunning(busy(1), "busy: ready\n", async (machine) => {
        const pause = machine.pause().then(
          () => "paused",
          (error: { code: string }) => error.code,
        );
        const info = await machine.stop();
        expect(info.cause).toBe("request");
        expect(["paused", "E_STATE"]).toContain(await pause);
        expect(machine.state).toBe("stopped");
      });
    },
    PATIENCE,
  );

  it(
    "stops before its vCPUs have got anywhere, and before the start",
    async () => {
      for (let i = 0; i < 20; i++) {
        await using machine = await Machine.create(busy((i % 4) as 0 | 1 | 2 | 3, { cpus: 2 }));
        machine.start();
        expect((await machine.stop()).state).toBe("stopped");
      }
      await using machine = await Machine.create(guest("hello"));
      expect(machine.state).toBe("created");
      expect(await machine.stop()).toMatchObject({ state: "stopped", cause: "request" });
      expect(await machine.wait()).toMatchObject({ state: "stopped", cause: "request" });
      expect(() => machine.start()).toThrow(expect.objectContaining({ code: "E_STATE" }));
    },
    PATIENCE,
  );

  it(
    "refuses what its state does not allow",
    async () => {
      await using machine = await Machine.create(busy(0));
      await expect(machine.pause()).rejects.toMatchObject({ code: "E_STATE" });
      expect(() => machine.resume()).toThrow(expect.objectContaining({ code: "E_STATE" }));
      expect(() => machine.reset()).toThrow(expect.objectContaining({ code: "E_STATE" }));
      machine.start();
      expect(() => machine.start()).toThrow(expect.objectContaining({ code: "E_STATE" }));
      expect(machine.state).toBe("running"); // and it goes on all the same
    },
    PATIENCE,
  );

  it(
    "the reset button: from running, and not while paused; counters go on",
    async () => {
      await withRunning(busy(3), "busy: ready\n", async (machine, transcript) => {
        const before = machine.stats().vcpus[0]?.runs ?? 0;
        const exits = machine.kvmStats().total.exits ?? 0;
        const reset = nextReset(machine);
        machine.reset();
        expect(await reset).toBe(1);
        await transcript.until("busy: ready\nbusy: ready\n");
        expect(machine.stats().resets).toBe(1);
        expect(machine.stats().vcpus[0]?.runs).toBeGreaterThan(before);
        expect(machine.kvmStats().total.exits ?? 0).toBeGreaterThanOrEqual(exits);
        await machine.pause();
        expect(() => machine.reset()).toThrow(expect.objectContaining({ code: "E_STATE" }));
      });
    },
    PATIENCE,
  );

  it(
    "pause, stop and dispose in the middle of resets",
    async () => {
      await withRunning(guest("reset"), "reset", async (machine) => {
        for (let i = 0; i < 20; i++) {
          await machine.pause();
          expect(machine.state).toBe("paused");
          machine.resume();
        }
      });
      for (let i = 0; i < 5; i++) {
        await withRunning(guest("reset", {}, { cpus: 2 }), "reset", async (machine) => {
          if (i % 2 === 0) {
            expect((await machine.stop()).state).toBe("stopped");
          }
        });
      }
    },
    PATIENCE,
  );

  it(
    "dispose: while running, twice, and what follows says so",
    async () => {
      const machine = await Machine.create(busy(0, { cpus: 2 }));
      const transcript = new Transcript(machine);
      const view = machine.memory.bytes(0x10_0000, 4096);
      const data = machine.memory.view(0x10_0000, 4096);
      expect(view[0]).toBe(0x48); // its code
      machine.start();
      await transcript.until("busy: ready\n");
      const ended = machine.wait();
      await Promise.all([machine.dispose(), machine.dispose()]);
      expect(await ended).toMatchObject({ state: "stopped", cause: "request" });
      await machine.dispose();

      expect(view.length).toBe(0);
      expect(view[0]).toBeUndefined();
      expect(() => data.getUint8(0)).toThrow(TypeError);
      const uses = [
        () => machine.state,
        () => machine.start(),
        () => machine.resume(),
        () => machine.reset(),
        () => machine.stopInfo(),
        () => machine.stats(),
        () => machine.kvmStats(),
        () => machine.setIrq(4, true),
        () => machine.attachConsole(-1, -1),
        () => machine.addDevice({ space: "pio", base: 0xf0, bytes: 1 }),
        () => machine.memory.bytes(0, 1),
        () => machine.memory.write(0, Buffer.alloc(1)),
      ];
      for (const use of uses) {
        expect(use, String(use)).toThrow(ClosedError);
      }
      await expect(async () => machine.pause()).rejects.toThrow(ClosedError);
      await expect(machine.stop()).rejects.toThrow(ClosedError);
    },
    PATIENCE,
  );

  it.each(["state", "stop"] as const)(
    "dispose from within the %s event",
    async (event) => {
      const machine = await Machine.create(guest("hello"));
      let disposed: Promise<void> | undefined;
      machine.on(event as "stop", () => {
        disposed ??= machine.dispose();
      });
      machine.start();
      await expect(machine.wait(PATIENCE)).resolves.toMatchObject({ state: "stopped" });
      await disposed;
      expect(() => machine.state).toThrow(ClosedError);
    },
    PATIENCE,
  );

  it(
    "dispose from within the last state event, where the end is told",
    async () => {
      const machine = await Machine.create(guest("hello"));
      const disposed = new Promise<void>((resolve) => {
        machine.on("state", (state) => {
          if (state === "stopped") {
            void machine.dispose().then(resolve);
          }
        });
      });
      const stop = new Promise((resolve) => machine.once("stop", resolve));
      machine.start();
      expect(await stop).toMatchObject({ cause: "poweroff" });
      await disposed;
    },
    PATIENCE,
  );

  it(
    "dispose while pauses are under way",
    async () => {
      for (let i = 0; i < 10; i++) {
        const machine = await Machine.create(busy((i % 4) as 0 | 1 | 2 | 3));
        machine.start();
        const pauses = [machine.pause(), machine.pause(), machine.pause()].map((pause) =>
          pause.then(
            () => "paused",
            (error: { code: string }) => error.code,
          ),
        );
        await machine.dispose();
        for (const result of await Promise.all(pauses)) {
          expect(["paused", "E_STATE"]).toContain(result);
        }
      }
    },
    PATIENCE,
  );

  it(
    "wait with a time limit says E_TIMEOUT, and leaves the machine alone",
    async () => {
      await withRunning(busy(0), "busy: ready\n", async (machine) => {
        await expect(machine.wait(10)).rejects.toMatchObject({ code: "E_TIMEOUT" });
        expect(machine.state).toBe("running");
      });
    },
    PATIENCE,
  );

  it(
    "an interrupt from outside wakes a halted vCPU",
    async () => {
      await withRunning(
        guest("halt", { count: 3, external: 1, gsi: 5 }),
        "halt: ready\n",
        async (machine, t) => {
          for (let i = 1; i <= 3; i++) {
            machine.setIrq(5, true);
            machine.setIrq(5, false);
            await t.until(`halt: woken ${i}\n`);
          }
          expect(await machine.wait(PATIENCE)).toMatchObject({ cause: "poweroff" });
          expect(() => machine.setIrq(24, true)).toThrow(expect.objectContaining({ code: "E_INVALID" }));
        },
      );
    },
    PATIENCE,
  );

  it(
    "an interrupt while paused waits for the resume",
    async () => {
      await withRunning(
        guest("halt", { count: 1, external: 1, gsi: 5 }),
        "halt: ready\n",
        async (machine, t) => {
          await machine.pause();
          machine.setIrq(5, true);
          expect(t.text).toBe("halt: ready\n");
          machine.resume();
          await t.until("halt: woken 1\n");
          machine.setIrq(5, false);
          await machine.wait(PATIENCE);
        },
      );
    },
    PATIENCE,
  );

  it(
    "pins vCPU threads, and says which CPU cannot be had",
    async () => {
      await using machine = await Machine.create(guest("hello", {}, { pin: [0] }));
      expect((await finish(machine)).info.cause).toBe("poweroff");
      await using bad = await Machine.create(guest("hello", {}, { pin: [-1, 4000], cpus: 2 }));
      expect(() => bad.start()).toThrow(
        expect.objectContaining({ code: "E_INVALID", message: "cannot pin vCPU 1 to host CPU 4000" }),
      );
    },
    PATIENCE,
  );
});
