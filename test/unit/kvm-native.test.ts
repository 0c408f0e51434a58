// SPDX-License-Identifier: Apache-2.0
/** The ground under src/kvm without /dev/kvm: structure tables, errors, native memory, statistics. */
import { describe, expect, it } from "vitest";
import { codeForErrno, errnoName, hintFor, V3mError, VmmError } from "../../src/errors.js";
import { Backing, VmmhpcError } from "../../src/ffi/layouts.js";
import { vmmError } from "../../src/ffi/machine.js";
import { NativeMemory, VIEW_MAX } from "../../src/ffi/native-memory.js";
import { check } from "../../src/ffi/raw.js";
import { array, bytes, chars, pad, struct, u8, u16, u32, u64, viewOf } from "../../src/ffi/struct.js";
import { cpuidBuffer, decodeCpuid, encodeCpuid } from "../../src/kvm/cpuid.js";
import { pagesOf } from "../../src/kvm/memory-slot.js";
import { describeStats, parseStats } from "../../src/kvm/stats.js";

describe("structure tables", () => {
  const Inner = struct("inner", { a: u8, b: u32 });
  const Outer = struct("outer", {
    x: u16,
    gap: pad(2),
    inner: Inner,
    list: array(u64, 2),
    raw: bytes(3),
    name: chars(5),
  });

  it("lay fields out by the C rules", () => {
    expect(Outer.offsets).toEqual({ x: 0, gap: 2, inner: 4, list: 16, raw: 32, name: 35 });
    expect(Outer.size).toBe(40);
    expect(Outer.align).toBe(8);
  });

  it("read back what they wrote, in part or whole", () => {
    const memory = Outer.alloc({
      x: 7,
      inner: { a: 1, b: 2 },
      list: [3n, 4n],
      raw: Uint8Array.of(5),
      name: "hey",
    });
    Outer.write(viewOf(memory), 0, { inner: { b: 9 } as { a: number; b: number } });
    expect(Outer.decode(memory)).toEqual({
      x: 7,
      inner: { a: 1, b: 9 },
      list: [3n, 4n],
      raw: Uint8Array.of(5, 0, 0),
      name: "hey",
    });
  });

  it("refuse what does not fit", () => {
    expect(() => Outer.alloc({ list: [1n, 2n, 3n] })).toThrow(V3mError);
    expect(() => Outer.alloc({ raw: new Uint8Array(4) })).toThrow(V3mError);
    expect(() => Outer.alloc({ name: "hello" })).toThrow(V3mError);
    expect(() => Outer.decode(new Uint8Array(39))).toThrow(RangeError);
  });
});

describe("errors", () => {
  it("carry code, hint, errno name and value of a vmmhpc_error", () => {
    const filled = VmmhpcError.alloc({ code: -4, sys_errno: 13, value: 5n, text: "cannot open /dev/kvm" });
    const error = vmmError(-4, filled);
    expect(error).toBeInstanceOf(VmmError);
    expect(error).toBeInstanceOf(V3mError);
    expect(error).toMatchObject({
      name: "VmmError",
      code: "E_PERMISSION",
      errno: "EACCES",
      value: 5n,
      message: "cannot open /dev/kvm",
    });
    expect(error.hint).toContain("usermod -aG kvm");
  });

  it("have a text where the library gave none, or another error's", () => {
    expect(vmmError(-7).message).toContain("E_RANGE");
    expect(vmmError(-7, VmmhpcError.alloc({ code: -3, text: "stale" })).message).not.toContain("stale");
    expect(vmmError(-999).code).toBe("E_STATUS_999");
  });

  it("of system calls name errno, call and value", () => {
    expect(check(3, "anything")).toBe(3);
    expect(() => check(-17, "KVM_CREATE_VCPU", 9n)).toThrow(
      expect.objectContaining({
        code: "E_OVERLAP",
        errno: "EEXIST",
        value: 9n,
        message: "KVM_CREATE_VCPU failed: EEXIST",
      }),
    );
    expect(errnoName(0)).toBeUndefined();
    expect(errnoName(524)).toBe("errno 524");
    expect(codeForErrno("EACCES")).toBe("E_PERMISSION");
    expect(codeForErrno("ENOTTY")).toBe("E_UNSUPPORTED");
    expect(codeForErrno("EPIPE")).toBe("E_SYSCALL");
    expect(hintFor("E_TIMEOUT")).toBeUndefined();
  });
});

describe("native memory", () => {
  it("is zeroed, aligned to 2 MiB and seen without copies", () => {
    const memory = NativeMemory.allocate(8192);
    expect(memory.address % (2n << 20n)).toBe(0n);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    memory.view.setUint32(4096, 0x01020304, true);
    expect([...memory.window(4096n, 4)]).toEqual([4, 3, 2, 1]);
    expect(memory.dataView(4098, 2).getUint16(0, true)).toBe(0x0102);
    expect(memory.bytes).toBe(memory.bytes);
    memory.close();
  });

  it("gives a descriptor for shared backings", () => {
    const memory = NativeMemory.allocate(4096, Backing.MEMFD);
    const again = NativeMemory.map(memory.fd, 4096);
    memory.bytes[3] = 33;
    expect(again.bytes[3]).toBe(33);
    memory.close();
    expect(again.bytes[3]).toBe(33);
    again.close();
  });

  it("refuses sizes that cannot be", () => {
    expect(() => NativeMemory.allocate(100)).toThrow(expect.objectContaining({ code: "E_INVALID" }));
    expect(() => NativeMemory.allocate(0)).toThrow(expect.objectContaining({ code: "E_INVALID" }));
    expect(() => NativeMemory.allocate(1n << 62n)).toThrow(expect.objectContaining({ code: "E_NO_MEMORY" }));
    expect(() => NativeMemory.allocate(4096, 99 as never)).toThrow(
      expect.objectContaining({ code: "E_INVALID" }),
    );
  });

  it("checks windows", () => {
    const memory = NativeMemory.allocate(4096);
    for (const [offset, length] of [
      [4096, 1],
      [0, 4097],
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [2n ** 64n, 1],
    ] as const) {
      expect(() => memory.window(offset, length), `${offset}+${length}`).toThrow(V3mError);
    }
    expect(memory.window(4096, 0).length).toBe(0);
    memory.close();
  });

  it("beyond 4 GiB is seen through windows", () => {
    const size = 9 * 2 ** 30;
    const memory = NativeMemory.allocate(size);
    expect(() => memory.bytes).toThrow(
      expect.objectContaining({ code: "E_RANGE", hint: expect.stringContaining("window") }),
    );
    for (const offset of [0, 2 ** 31 - 4, 2 ** 32 - 4, 5 * 2 ** 30, size - 8]) {
      memory.window(offset, 8).fill(0x5a);
      expect([...memory.window(offset + 4, 4)]).toEqual([0x5a, 0x5a, 0x5a, 0x5a]);
    }
    expect(memory.window(2 ** 30, 2 ** 31 - 4096).length).toBe(2 ** 31 - 4096);
    expect(() => memory.window(2 ** 31 - 1, VIEW_MAX)).toThrow(expect.objectContaining({ code: "E_RANGE" }));
    expect(memory.window(size, 0).length).toBe(0);
    const stale = memory.window(5 * 2 ** 30, 16);
    memory.close();
    expect(stale.length).toBe(0);
  });

  it("is gone after close: views say so, nothing crashes", () => {
    const memory = NativeMemory.allocate(4096, Backing.ANON, "the test's memory");
    const { bytes: all, view } = memory;
    const part = memory.window(100, 10);
    memory[Symbol.dispose]();
    memory.close();
    expect(memory.closed).toBe(true);
    expect(all.length + part.length).toBe(0);
    expect(() => view.getUint8(0)).toThrow(TypeError);
    expect(() => all.fill(1)).toThrow(TypeError);
    for (const use of [
      () => memory.bytes,
      () => memory.view,
      () => memory.address,
      () => memory.window(0, 1),
      () => memory.share(),
    ]) {
      expect(use).toThrow(
        expect.objectContaining({ code: "E_CLOSED", message: expect.stringContaining("the test's memory") }),
      );
    }
  });

  it("lives until its last holder closes it", () => {
    const owner = NativeMemory.allocate(4096);
    const shared = owner.share();
    const other = NativeMemory.attach(structuredClone(shared));
    expect(owner.holders).toBe(2);
    owner.bytes[1] = 11;
    owner.close();
    expect(other.bytes[1]).toBe(11);
    other.close();
    expect(other.holders).toBe(0);
    expect(() => NativeMemory.attach(shared)).toThrow(expect.objectContaining({ code: "E_CLOSED" }));
  });

  it("that is borrowed stays when the borrower closes", () => {
    const owner = NativeMemory.allocate(4096);
    const borrower = NativeMemory.borrow(owner.address, 4096n, "loan");
    const view = borrower.bytes;
    borrower.close();
    expect(view.length).toBe(0);
    owner.bytes[0] = 1;
    expect(owner.bytes[0]).toBe(1);
    owner.close();
  });
});

describe("flexible arrays", () => {
  it("CPUID entries", () => {
    const encoded = encodeCpuid([
      { function: 1, eax: 2 },
      { function: 7, index: 1, flags: 1 },
    ]);
    expect(encoded.byteLength).toBe(8 + 2 * 40);
    expect(decodeCpuid(encoded)).toEqual([
      { function: 1, index: 0, flags: 0, eax: 2, ebx: 0, ecx: 0, edx: 0 },
      { function: 7, index: 1, flags: 1, eax: 0, ebx: 0, ecx: 0, edx: 0 },
    ]);
    expect(viewOf(cpuidBuffer(5)).getUint32(0, true)).toBe(5);
  });

  it("bits of a dirty bitmap", () => {
    expect(pagesOf(Uint8Array.of(0b1001, 0, 0b1000_0000))).toEqual([0, 3, 23]);
    expect(pagesOf(new Uint8Array(8))).toEqual([]);
  });

  it("binary statistics, histograms too", () => {
    const head = Buffer.alloc(24 + 2 * (16 + 16));
    [0, 16, 2, 0, 24, 88].forEach((word, i) => {
      head.writeUInt32LE(word, i * 4);
    });
    const desc = (i: number, name: string, flags: number, size: number, offset: number) => {
      const at = 24 + i * 32;
      head.writeUInt32LE(flags, at);
      head.writeUInt16LE(size, at + 6);
      head.writeUInt32LE(offset, at + 8);
      head.write(name, at + 16);
    };
    desc(0, "exits", 0, 1, 0);
    desc(1, "halt_hist", 4, 3, 8);
    const { descriptions, dataOffset } = describeStats(head);
    expect(dataOffset).toBe(88);
    expect(descriptions.map(({ name, type, size }) => [name, type, size])).toEqual([
      ["exits", 0, 1],
      ["halt_hist", 4, 3],
    ]);
    const data = Buffer.alloc(32);
    [5n, 1n, 2n, 3n].forEach((value, i) => {
      data.writeBigUInt64LE(value, i * 8);
    });
    expect(parseStats(descriptions, data)).toEqual({ exits: 5n, halt_hist: [1n, 2n, 3n] });
  });
});
