// SPDX-License-Identifier: Apache-2.0
/** Devices in the threads that run the vCPUs: each vCPU in a Worker of its own, with its device modules. */
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { DeviceError, type DeviceModule, Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { busy, finish, guest, PATIENCE, run, withRunning } from "../support/machines.js";
import type { ModuleData } from "./machine-device-module.js";

const FILE = join(packageRoot(), "dist/test/kvm/machine-device-module.js");

function modules(what: ModuleData["what"], counts?: Int32Array<SharedArrayBuffer>): DeviceModule[] {
  const data: ModuleData = counts === undefined ? { what } : { what, counts };
  return [{ module: FILE, data }];
}

function shared(cpus: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(4 * (cpus + 1)));
}

/** Every vCPU writes its port three times, one after the other, then waits; the last one powers off. */
const ALL_WRITE = { cpus: 3, rounds: 1 } as const;

suite("devices in Workers", { needs: ["kvm"] }, () => {
  it(
    "one vCPU: every access is answered, in its own thread",
    async () => {
      const counts = shared(1);
      const options = { deviceModules: modules("counter", counts) };
      const { output, info } = await run(guest("pio", { count: 200, read: 1 }, options));
      expect(output).toBe("pio: count 200 last 0xc8\npio: ok\n");
      expect(info.cause).toBe("poweroff");
      expect([...counts]).toEqual([200, 200]);
    },
    PATIENCE,
  );

  it(
    "three vCPUs share state; URL and path name a module; a module makes several devices",
    async () => {
      const counts = shared(3);
      const [module] = modules("two", counts);
      const deviceModules = [{ ...module, module: pathToFileURL(FILE) }];
      const { output } = await run(guest("smp", ALL_WRITE, { cpus: 3, deviceModules }));
      expect(output).toBe("smp: cpus 3\nsmp: interrupts 2\nsmp: ok\n");
      const { output: piped } = await run(
        guest("pio", { count: 5, port: 0x503 }, { cpus: 3, deviceModules }),
      );
      expect(piped).toContain("pio: count 5");
      expect([...counts]).toEqual([5, 0, 0, 5]);
    },
    PATIENCE,
  );

  it(
    "a device sees guest memory, sets interrupts, stops the machine",
    async () => {
      const options = { deviceModules: modules("context") };
      const { output, info } = await run(guest("mmio", { count: 1, sizes: 4, directions: 2 }, options));
      expect(output).toBe(
        `mmio: accesses 1 sum 0x${Buffer.from("M3V").toString("hex").padStart(8, "50")}\nmmio: ok\n`,
      );
      expect(info.cause).toBe("poweroff");
      const stopped = await run(guest("mmio", { count: 1, sizes: 1, directions: 1 }, options));
      expect(stopped.info).toMatchObject({ state: "stopped", cause: "request" });
    },
    PATIENCE,
  );

  it(
    "pause, resume and reset reach vCPUs in Workers",
    async () => {
      const counts = shared(2);
      const options = { cpus: 2, deviceModules: modules("counter", counts) };
      await withRunning(busy(3, options), "busy: ready\n", async (machine, transcript) => {
        for (let i = 0; i < 20; i++) {
          await machine.pause();
          const seen = counts[2];
          expect(machine.stats().vcpus[0]?.runs).toBe(machine.stats().vcpus[0]?.runs);
          expect(counts[2]).toBe(seen);
          machine.resume();
        }
        machine.reset();
        await transcript.until("busy: ready\nbusy: ready\n");
        expect(await machine.stop()).toMatchObject({ cause: "request" });
      });
    },
    PATIENCE,
  );

  it.each([
    ["an error", "throw", "bad device failed: out of paper", RangeError],
    ["an error that no message can carry", "throw-odd", "bad device failed: odd", undefined],
  ] as const)(
    "a device that throws %s stops the machine",
    async (_name, what, message, cause) => {
      await using machine = await Machine.create(guest("pio", {}, { deviceModules: modules(what) }));
      const told: DeviceError[] = [];
      machine.on("deviceError", (error) => told.push(error));
      const ended = finish(machine);
      await expect(ended).rejects.toThrow(DeviceError);
      await expect(ended).rejects.toMatchObject({ code: "E_DEVICE", message });
      if (cause !== undefined) {
        await expect(ended).rejects.toMatchObject({ cause: expect.any(cause) });
      }
      expect(told).toHaveLength(1);
      expect(machine.state).toBe("stopped");
      await expect(machine.wait()).rejects.toThrow(message);
    },
    PATIENCE,
  );

  it.each([
    ["fails", "fail", /a device module failed: no such hardware/],
    ["ends its Worker", "exit", /the Worker of vCPU [01] ended before its devices were ready/],
    ["differs among vCPUs", "differ", /a device module made different devices for different vCPUs/],
    ["makes more devices for some", "more", /a device module made different devices for different vCPUs/],
  ] as const)(
    "a module that %s is an error of create(), and leaves nothing behind",
    async (_name, what, message) => {
      const tasks = () => readdirSync("/proc/self/task").length;
      const create = () => Machine.create(guest("hello", {}, { cpus: 2, deviceModules: modules(what) }));
      await expect(create()).rejects.toMatchObject({
        name: "DeviceError",
        code: "E_DEVICE",
        message: expect.stringMatching(message),
      });
      const before = tasks();
      await expect(create()).rejects.toThrow(message);
      expect(tasks()).toBeLessThanOrEqual(before);
    },
    PATIENCE,
  );

  it(
    "a module that is not there, or makes no devices, is named",
    async () => {
      const create = (module: string) => Machine.create(guest("hello", {}, { deviceModules: [{ module }] }));
      await expect(create("/nowhere/device.js")).rejects.toThrow(
        /^a device module failed: .*\/nowhere\/device.js/,
      );
      await expect(create("node:path")).rejects.toThrow("node:path has no default export that makes devices");
    },
    PATIENCE,
  );

  it(
    "dispose: before the start, while running, and while a device answers",
    async () => {
      const counts = shared(2);
      const options = { cpus: 2, deviceModules: modules("counter", counts) };
      await (await Machine.create(guest("hello", {}, options))).dispose();
      for (const mode of [0, 1, 3] as const) {
        const machine = await Machine.create(busy(mode, options));
        machine.start();
        const ended = machine.wait();
        await machine.dispose();
        expect(await ended).toMatchObject({ state: "stopped", cause: "request" });
      }
    },
    PATIENCE,
  );

  it(
    "a process ends although vCPUs run in its Workers",
    async () => {
      const path = (file: string) => JSON.stringify(join(packageRoot(), "dist", file));
      const script = `
        import { Machine } from ${path("src/vmm/index.js")};
        import { payload } from ${path("test/support/payloads.js")};
        const machine = await Machine.create({
          ...payload("busy", { mode: 2 }), memory: 4 << 20, cpus: 2,
          deviceModules: [{ module: ${JSON.stringify(FILE)}, data: { what: "counter" } }],
        });
        machine.console.on("data", () => {
          if (process.argv[2] === "throw") throw new Error("oops");
          process.exit(7);
        });
        machine.start();`;
      const directory = mkdtempSync(join(tmpdir(), "v3m-exit-"));
      try {
        const file = join(directory, "guest.mjs");
        writeFileSync(file, script);
        for (const [how, code] of [
          ["exit", 7],
          ["throw", 1],
        ] as const) {
          const ended = promisify(execFile)(process.execPath, [file, how], { timeout: PATIENCE / 2 });
          await expect(ended).rejects.toMatchObject({ code, killed: false });
        }
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
    PATIENCE,
  );
});
