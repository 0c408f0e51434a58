// SPDX-License-Identifier: Apache-2.0
/** Devices in this thread: Machine.addDevice(), before the start and while the guest runs. */
import { expect, it } from "vitest";
import { type AccessValue, ArgumentError, type Device, DeviceError, Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { busy, finish, guest, PATIENCE, withRunning } from "../support/machines.js";
import { EXIT_PORT, SCRATCH_ADDRESS, SCRATCH_PORT } from "../support/payloads.js";

interface Access {
  readonly offset: number;
  readonly bytes: number;
  readonly vcpu: number;
  readonly value?: AccessValue;
}

/** A device that keeps what was done to it. */
function recorder(device: Pick<Device, "space" | "base" | "bytes">, answer: AccessValue = 0) {
  const reads: Access[] = [];
  const writes: Access[] = [];
  return {
    ...device,
    reads,
    writes,
    read: (offset: number, bytes: number, vcpu: number) => {
      reads.push({ offset, bytes, vcpu });
      return answer;
    },
    write: (offset: number, value: AccessValue, bytes: number, vcpu: number) => {
      writes.push({ offset, value, bytes, vcpu });
    },
  };
}

const port = { space: "pio", base: SCRATCH_PORT, bytes: 1 } as const;

suite("devices in this thread", { needs: ["kvm"] }, () => {
  it(
    "port output: each value, in order; the exit status of a payload",
    async () => {
      await using machine = await Machine.create(guest("string", { count: 20 }));
      const device = recorder(port);
      const exit = recorder({ space: "pio", base: EXIT_PORT, bytes: 1 });
      machine.addDevice(device);
      machine.addDevice(exit);
      await finish(machine);
      expect(device.writes).toEqual(
        Array.from({ length: 20 }, (_, value) => ({ offset: 0, value, bytes: 1, vcpu: 0 })),
      );
      expect(exit.writes).toEqual([{ offset: 0, value: 0, bytes: 1, vcpu: 0 }]);
    },
    PATIENCE,
  );

  it.each([
    [1, 0xab],
    [2, 0xbeef],
    [4, 0xdead_beef],
  ] as const)(
    "port input of %i bytes",
    async (bytes, answer) => {
      await using machine = await Machine.create(guest("pio", { count: 3, bytes, read: 1, port: 0x700 }));
      const device = recorder({ space: "pio", base: 0x700, bytes: 4 }, answer);
      machine.addDevice(device);
      const { output } = await finish(machine);
      expect(output).toContain(`last 0x${answer.toString(16)}\n`);
      expect(device.reads).toEqual(Array(3).fill({ offset: 0, bytes, vcpu: 0 }));
    },
    PATIENCE,
  );

  it(
    "memory-mapped accesses of all sizes, up to eight bytes whole",
    async () => {
      await using machine = await Machine.create(
        guest("mmio", { count: 1, address: SCRATCH_ADDRESS + 0x18 }),
      );
      const device = recorder({ space: "mmio", base: SCRATCH_ADDRESS, bytes: 4096 }, 0x0102_0304_0506_0708n);
      machine.addDevice(device);
      const { output } = await finish(machine);
      const pattern = 0x0807_0605_0403_0201n;
      expect(device.writes).toEqual(
        [1, 2, 4, 8].map((bytes) => ({
          offset: 0x18,
          bytes,
          vcpu: 0,
          value: bytes === 8 ? pattern : Number(BigInt.asUintN(8 * bytes, pattern)),
        })),
      );
      const sum = 0x08n + 0x0708n + 0x0506_0708n + 0x0102_0304_0506_0708n;
      expect(output).toContain(`mmio: accesses 8 sum 0x${sum.toString(16)}\n`);
    },
    PATIENCE,
  );

  it(
    "what crosses the end of a device belongs to nobody",
    async () => {
      await using machine = await Machine.create(guest("pio", { count: 2, bytes: 2, read: 1, port: 0x703 }));
      const device = recorder({ space: "pio", base: 0x700, bytes: 4 }, 0);
      machine.addDevice(device);
      const { output, stats } = await finish(machine);
      expect(output).toContain("last 0xffff\n");
      expect(device.reads).toEqual([]);
      expect(stats.vcpus[0]?.unclaimedPio).toBe(3); // and the port for the exit status
    },
    PATIENCE,
  );

  it(
    "values are cut to the width of the access, whatever a device returns",
    async () => {
      for (const [answer, last] of [
        [-1, "0xffff"],
        [0x1_2345, "0x2345"],
        [-2n, "0xfffe"],
        [0xffff_ffff_ffff_1234n, "0x1234"],
        [1.9, "0x1"],
      ] as const) {
        await using machine = await Machine.create(guest("pio", { count: 1, bytes: 2, read: 1 }));
        machine.addDevice({ ...port, bytes: 2, read: () => answer });
        expect((await finish(machine)).output, String(answer)).toContain(`last ${last}\n`);
      }
    },
    PATIENCE,
  );

  it(
    "a device without handlers reads as all ones",
    async () => {
      await using machine = await Machine.create(guest("pio", { count: 2, read: 1 }));
      machine.addDevice(port);
      const { output, stats } = await finish(machine);
      expect(output).toContain("last 0xff\n");
      expect(stats.vcpus[0]?.unclaimedPio).toBe(1);
    },
    PATIENCE,
  );

  it(
    "devices come and go while the guest runs",
    async () => {
      await withRunning(busy(3), "busy: ready\n", async (machine) => {
        for (let i = 0; i < 10; i++) {
          let handle: ReturnType<Machine["addDevice"]> | undefined;
          const device = recorder(port);
          await new Promise<void>((resolve) => {
            handle = machine.addDevice({ ...device, write: () => resolve() });
          });
          await handle?.remove();
          const taken = machine.addDevice(device); // its range is free again
          await Promise.all([taken.remove(), taken.remove()]);
          const { length } = device.writes;
          await new Promise(setImmediate);
          expect(device.writes).toHaveLength(length); // no call comes after its removal
        }
      });
    },
    PATIENCE,
  );

  it(
    "a device adds others from inside its handler, and they work",
    async () => {
      await withRunning(busy(3), "busy: ready\n", async (machine) => {
        const second = recorder({ space: "pio", base: 0x700, bytes: 1 });
        await new Promise<void>((resolve) => {
          let added = false;
          machine.addDevice({
            ...port,
            write: () => {
              if (!added) {
                added = true;
                machine.addDevice(second);
                machine.addDevice({ space: "mmio", base: SCRATCH_ADDRESS, bytes: 8 });
                resolve();
              }
            },
          });
        });
        await machine.pause();
        machine.resume();
        expect(() => machine.addDevice(second)).toThrow(expect.objectContaining({ code: "E_OVERLAP" }));
      });
    },
    PATIENCE,
  );

  it(
    "pause, stop and dispose while a device answers",
    async () => {
      for (const end of ["pause", "stop", "dispose"] as const) {
        const machine = await Machine.create(busy(3, { cpus: 2 }));
        const called = new Promise<void>((resolve) => {
          machine.addDevice({ ...port, write: () => resolve() });
        });
        machine.start();
        await called;
        await machine[end]();
        await machine.dispose();
      }
    },
    PATIENCE,
  );

  it(
    "a device disposes of its own machine",
    async () => {
      const machine = await Machine.create(busy(3));
      const disposed = new Promise<void>((resolve) => {
        machine.addDevice({ ...port, write: () => void machine.dispose().then(resolve) });
      });
      machine.start();
      await disposed;
      expect(() => machine.state).toThrow("the machine was disposed");
    },
    PATIENCE,
  );

  it(
    "a device that throws: the machine stops, and says which device and why",
    async () => {
      await using machine = await Machine.create(guest("pio"));
      const told: DeviceError[] = [];
      machine.on("deviceError", (error) => told.push(error));
      const cause = new RangeError("out of paper");
      machine.addDevice({
        ...port,
        name: "printer",
        write: () => {
          throw cause;
        },
      });
      const ended = finish(machine);
      await expect(ended).rejects.toThrow(DeviceError);
      await expect(ended).rejects.toMatchObject({
        code: "E_DEVICE",
        message: "printer failed: out of paper",
        cause,
      });
      expect(machine.state).toBe("stopped");
      expect(told).toHaveLength(1);
      await expect(machine.stop()).rejects.toThrow(DeviceError);
    },
    PATIENCE,
  );

  it(
    "refuses ranges that overlap, lie over RAM, or are none",
    async () => {
      await using machine = await Machine.create(guest("hello"));
      const claim = (space: "pio" | "mmio", base: number | bigint, bytes: number | bigint) => () =>
        machine.addDevice({ space, base, bytes });
      const code = (expected: string) =>
        expect.objectContaining({ code: expected, hint: expect.any(String) });
      expect(claim("pio", 0x3f8, 8)).toThrow(expect.objectContaining({ code: "E_OVERLAP" }));
      expect(claim("pio", 0x3f0, 9)).toThrow(
        expect.objectContaining({ message: "device range 0x3f0-0x3f8 overlaps 0x3f8-0x3ff", value: 0x3f0n }),
      );
      expect(claim("mmio", 0x1000, 0x1000)).toThrow(
        expect.objectContaining({ code: "E_OVERLAP", message: "the device range at 0x1000 overlaps RAM" }),
      );
      expect(claim("mmio", (16 << 20) - 1, 2)).toThrow(expect.objectContaining({ code: "E_OVERLAP" }));
      expect(claim("pio", 0xffff, 2)).toThrow(code("E_INVALID"));
      expect(claim("mmio", 0xffff_ffff_ffff_ffffn, 2)).toThrow(code("E_INVALID"));
      for (const [base, bytes] of [
        [-1, 1],
        [0.5, 1],
        [0x700, 0],
        [0x700, -1],
        [1n << 64n, 1],
        [Number.NaN, 1],
      ] as const) {
        expect(claim("pio", base, bytes), `${base} ${bytes}`).toThrow(ArgumentError);
      }
      machine.addDevice({ space: "mmio", base: 16 << 20, bytes: 1 });
      machine.addDevice({ space: "mmio", base: 0xffff_ffff_ffff_ffffn, bytes: 1 });
      machine.addDevice({ space: "pio", base: 0xffff, bytes: 1 });
      expect((await finish(machine)).info.cause).toBe("poweroff");
    },
    PATIENCE,
  );
});
