// SPDX-License-Identifier: Apache-2.0
/** Devices in TypeScript: what their handlers are given, what becomes of what they return or throw. */
import { describe, expect, it } from "vitest";
import { ACCESS_READ, ACCESS_WRITE, Space } from "../../src/ffi/index.js";
import { type Device, DeviceError, handlerOf, rangeOf, spaceOf } from "../../src/vmm/device.js";

const range = { space: "pio", base: 0x700, bytes: 4 } as const;
const ONES = 0xffff_ffff_ffff_ffffn;

function call(device: Device, direction: number, value: number | bigint = 0, offset: number | bigint = 0) {
  const errors: DeviceError[] = [];
  const handler = handlerOf(device, (error) => errors.push(error));
  return { result: handler(null, 5, offset, 2, direction, value), errors };
}

describe("device handlers", () => {
  it("get offset, size, vCPU and value", () => {
    const calls: unknown[][] = [];
    const device: Device = {
      ...range,
      read: (...args) => {
        calls.push(["read", ...args]);
        return 0x1234;
      },
      write: (...args) => {
        calls.push(["write", ...args]);
      },
    };
    expect(call(device, ACCESS_READ, 0, 3n)).toEqual({ result: 0x1234, errors: [] });
    expect(call(device, ACCESS_WRITE, 0xff, 1)).toEqual({ result: 0, errors: [] });
    expect(call(device, ACCESS_WRITE, 1n << 63n)).toEqual({ result: 0, errors: [] });
    expect(calls).toEqual([
      ["read", 3, 2, 5],
      ["write", 1, 0xff, 2, 5],
      ["write", 0, 1n << 63n, 2, 5],
    ]);
  });

  it("are called as methods of their device", () => {
    class Counter implements Device {
      readonly space = "pio";
      readonly base = 0;
      readonly bytes = 1;
      count = 0;
      read(): number {
        this.count += 1;
        return this.count;
      }
    }
    const device = new Counter();
    const handler = handlerOf(device, () => {});
    expect([1, 2].map(() => handler(null, 0, 0, 1, ACCESS_READ, 0))).toEqual([1, 2]);
    expect(device.count).toBe(2);
  });

  it("that are missing read as all ones and ignore writes", () => {
    expect(call(range, ACCESS_READ)).toEqual({ result: ONES, errors: [] });
    expect(call(range, ACCESS_WRITE, 1)).toEqual({ result: 0, errors: [] });
  });

  it.each([
    [7, 7],
    [0, 0],
    [-1, ONES],
    [-2, ONES - 1n],
    [-1n, ONES],
    [1n << 63n, 1n << 63n],
    [2 ** 60, 1n << 60n],
    [1.9, 1n],
  ] as const)("may return %s", (answer, expected) => {
    expect(call({ ...range, read: () => answer }, ACCESS_READ)).toEqual({ result: expected, errors: [] });
  });

  it.each([
    ["an error", new RangeError("out of paper"), "printer failed: out of paper"],
    ["text", "paper jam", "printer failed: paper jam"],
    ["nothing", undefined, "printer failed: undefined"],
  ] as const)("that throw %s are reported, and the guest reads all ones", (_what, cause, message) => {
    const device: Device = {
      ...range,
      name: "printer",
      read: () => {
        throw cause;
      },
      write: () => {
        throw cause;
      },
    };
    for (const direction of [ACCESS_READ, ACCESS_WRITE]) {
      const { result, errors } = call(device, direction, 1);
      expect(result).toBe(ONES);
      expect(errors).toHaveLength(1);
      expect(errors[0]).toBeInstanceOf(DeviceError);
      expect(errors[0]).toMatchObject({ name: "DeviceError", code: "E_DEVICE", message });
      expect(errors[0]?.cause).toBe(cause);
    }
  });

  it("that return what is no number are reported like those that throw", () => {
    for (const answer of [undefined, "text", {}, Number.NaN, Number.POSITIVE_INFINITY]) {
      const { result, errors } = call({ ...range, read: () => answer as unknown as number }, ACCESS_READ);
      expect(result, String(answer)).toBe(ONES);
      expect(errors, String(answer)).toHaveLength(1);
    }
  });

  it("of a device without a name are named after their range", () => {
    const { errors } = call(
      {
        ...range,
        read: () => {
          throw new Error("no");
        },
      },
      ACCESS_READ,
    );
    expect(errors[0]?.message).toBe("pio device at 0x700 failed: no");
  });
});

describe("device ranges", () => {
  it("are of ports or of memory", () => {
    expect(spaceOf({ space: "pio" })).toBe(Space.PIO);
    expect(spaceOf({ space: "mmio" })).toBe(Space.MMIO);
    expect(() => spaceOf({ space: "pci" as "pio" })).toThrow('a device is in space "pio" or "mmio", not pci');
  });

  it("are whole numbers of 64 bits", () => {
    expect(rangeOf({ base: 0x3f8, bytes: 8n })).toEqual({ base: 0x3f8n, bytes: 8n });
    expect(rangeOf({ base: ONES, bytes: 1 })).toEqual({ base: ONES, bytes: 1n });
    for (const [base, bytes] of [
      [-1, 1],
      [0.5, 1],
      [0, 0],
      [0, 1.5],
      [0, -1n],
      [ONES + 1n, 1],
    ] as const) {
      expect(() => rangeOf({ base, bytes }), `${base} ${bytes}`).toThrow(
        expect.objectContaining({ code: "E_INVALID", name: "ArgumentError" }),
      );
    }
  });
});
