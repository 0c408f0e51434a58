// SPDX-License-Identifier: Apache-2.0
/** Guest RAM from both sides: views without copies, slots, dirty logs, and what stale views say. */
import { expect, it } from "vitest";
import {
  Backing,
  ClosedError,
  EventFd,
  Kvm,
  Mem,
  type MemorySlot,
  NativeMemory,
  pagesOf,
} from "../../src/kvm/index.js";
import { suite } from "../support/capabilities.js";
import { ENTRY, expectExit, runUntil, withGuest } from "../support/raw-guest.js";

/** Addresses of dirty pages but the code's own: KVM may map that writable at once, and calls it dirty. */
const dirtyData = (ram: MemorySlot) => ram.dirtyPages().filter((gpa) => gpa !== BigInt(ENTRY));
const dirtyBits = (ram: MemorySlot) => pagesOf(ram.getDirtyLog()).filter((page) => page !== ENTRY / 4096);

/** ds = 0; [di] = ax for cx words, di += bx; hlt */
const STORE = "31 c9 8e d9 89 05 01 df 4e 75 f9 f4 ; next: mov [di], ax; add di, bx; dec si; jnz next; hlt";

suite("guest memory", { needs: ["kvm"] }, () => {
  it("one view shows what either side writes", () => {
    withGuest("a1 00 20 40 a3 02 20 f4 ; ax = [0x2000]; ax++; [0x2002] = ax; hlt", ({ vcpu, ram }) => {
      const { view } = ram;
      view.setUint16(0x2000, 0x1233, true);
      expectExit(vcpu.run(), "hlt");
      expect(view.getUint16(0x2002, true)).toBe(0x1234);
      expect(ram.bytes[0x2002]).toBe(0x34);
      expect(ram.window(0x2002, 2)).toEqual(Uint8Array.of(0x34, 0x12));
      expect(ram.bytes.buffer).toBe(ram.window(16, 4).buffer);
    });
  });

  it("slots of every ordinary backing work, at their own addresses", () => {
    for (const backing of [Backing.ANON, Backing.THP, Backing.MEMFD]) {
      withGuest("b8 00 90 8e d8 c6 06 05 00 77 f4 ; ds = 0x9000; byte [5] = 0x77; hlt", ({ vm, vcpu }) => {
        const slot = vm.addMemory({ gpa: 0x90000, size: 0x10000, backing });
        expect(slot.memory.address % (2n << 20n)).toBe(0n);
        expect(vm.slots.map(({ slot: n }) => n)).toEqual([0, 1]);
        expectExit(vcpu.run(), "hlt");
        expect(slot.bytes[5]).toBe(0x77);
        expect(vm.memory(0x90005, 1)).toEqual(Uint8Array.of(0x77));
        expect(slot.memory.fd >= 0).toBe(backing === Backing.MEMFD);
      });
    }
  });

  it("writes to a read-only slot come out, reads do not", () => {
    withGuest(
      "b8 00 90 8e d8 a0 05 00 a2 06 00 f4 ; ds = 0x9000; al = [5]; [6] = al; hlt",
      ({ vm, vcpu }) => {
        const rom = vm.addMemory({ gpa: 0x90000, size: 4096, readonly: true });
        rom.bytes[5] = 0x42;
        const exit = expectExit(vcpu.run(), "mmio");
        expect(exit).toMatchObject({ direction: "write", address: 0x90006n, size: 1 });
        expect(exit.data.getUint8(0)).toBe(0x42);
        expectExit(vcpu.run(), "hlt");
        expect(rom.bytes[6]).toBe(0);
      },
    );
  });

  it("bad slots are refused and leave nothing behind", () => {
    withGuest("f4", ({ vm }) => {
      expect(() => vm.addMemory({ gpa: 0x8000, size: 0x1000 })).toThrow(
        expect.objectContaining({ code: "E_OVERLAP", errno: "EEXIST" }),
      );
      expect(() => vm.addMemory({ gpa: 0x123, size: 0x1000 })).toThrow(
        expect.objectContaining({ code: "E_INVALID" }),
      );
      expect(() => vm.addMemory({ gpa: 1 << 20, size: 100 })).toThrow(
        expect.objectContaining({ code: "E_INVALID" }),
      );
      expect(() => vm.addMemory({ gpa: 1 << 20 })).toThrow(expect.objectContaining({ code: "E_INVALID" }));
      expect(() => vm.addMemory({ gpa: 1 << 20, size: 4096, slot: 0 })).toThrow(/slot 0 is taken/);
      expect(() => vm.memory(0xffff, 2)).toThrow(expect.objectContaining({ code: "E_RANGE" }));
      expect(vm.slots.length).toBe(1);
    });
  });

  it("memory of the caller's survives the VM", () => {
    using memory = NativeMemory.allocate(0x10000, Backing.MEMFD, "mine");
    const kvm = Kvm.open();
    const vm = kvm.createVm();
    vm.addMemory({ gpa: 0, memory });
    vm.close();
    kvm.close();
    memory.bytes[1] = 2;
    expect(memory.bytes[1]).toBe(2);
  });
});

suite("dirty log", { needs: ["kvm"] }, () => {
  it("shows the pages that the guest wrote since the last look", () => {
    withGuest(
      STORE,
      ({ vcpu, ram }) => {
        ram.dirtyPages();
        vcpu.setRegs({ rdi: 0x3000n, rbx: 0x2000n, rsi: 3n });
        expectExit(vcpu.run(), "hlt");
        expect(dirtyData(ram)).toEqual([0x3000n, 0x5000n, 0x7000n]);
        expect(dirtyData(ram)).toEqual([]);
        vcpu.setRegs({ rip: BigInt(ENTRY), rdi: 0x5000n, rbx: 2n, rsi: 9n });
        expectExit(vcpu.run(), "hlt");
        expect(dirtyData(ram)).toEqual([0x5000n]);
      },
      { logDirty: true },
    );
  });

  it("can be turned on later, and off", () => {
    withGuest(STORE, ({ vcpu, ram }) => {
      expect(() => ram.getDirtyLog()).toThrow(expect.objectContaining({ errno: "ENOENT" }));
      ram.logDirty = true;
      vcpu.setRegs({ rdi: 0x6000n, rbx: 0n, rsi: 1n });
      expectExit(vcpu.run(), "hlt");
      expect(dirtyData(ram)).toEqual([0x6000n]);
      ram.logDirty = false;
      expect(() => ram.getDirtyLog()).toThrow();
    });
  });

  it("with manual protection only what is cleared is protected again", () => {
    withGuest(STORE, ({ kvm, vm, vcpu, ram }) => {
      if ((kvm.checkExtension("MANUAL_DIRTY_LOG_PROTECT2") & 1) === 0) {
        return;
      }
      vm.enableCap("MANUAL_DIRTY_LOG_PROTECT2", 1n);
      ram.logDirty = true;
      vcpu.setRegs({ rdi: 0x3000n, rbx: 0x1000n, rsi: 2n });
      expectExit(vcpu.run(), "hlt");
      expect(dirtyBits(ram)).toEqual([3, 4]);
      expect(dirtyBits(ram)).toEqual([3, 4]);
      const clear = new Uint8Array(ram.bitmapBytes);
      clear[0] = 1 << 3;
      ram.clearDirtyLog(clear);
      expect(dirtyBits(ram)).toEqual([4]);
      expect(() => ram.clearDirtyLog(new Uint8Array(1))).toThrow(
        expect.objectContaining({ code: "E_INVALID" }),
      );
    });
  });
});

suite("use after dispose", { needs: ["kvm"] }, () => {
  it("every object says that it is closed, and stale views touch nothing", () => {
    const kvm = Kvm.open();
    const vm = kvm.createVm();
    const ram = vm.addMemory({ gpa: 0, size: 0x10000 });
    const vcpu = vm.createVcpu(0);
    const { bytes, view } = ram;
    const run = vcpu.kvmRun;
    bytes[7] = 7;
    vm.close();
    vm.close();

    expect(bytes.length).toBe(0);
    expect(bytes[7]).toBeUndefined();
    bytes[7] = 8;
    expect(() => view.getUint8(0)).toThrow(TypeError);
    expect(() => run.getUint32(8, true)).toThrow(TypeError);
    for (const use of [
      () => ram.bytes,
      () => ram.view,
      () => ram.window(0, 1),
      () => ram.memory.address,
      () => vm.memory(0, 1),
      () => vm.createVcpu(1),
      () => vm.addMemory({ gpa: 1 << 20, size: 4096 }),
      () => vm.stats(),
      () => vcpu.run(),
      () => vcpu.getRegs(),
      () => vcpu.kick(),
      () => vcpu.kvmRun,
    ]) {
      expect(use).toThrow(ClosedError);
    }
    kvm.close();
    expect(() => kvm.createVm()).toThrow(expect.objectContaining({ code: "E_CLOSED" }));
  });

  it("a removed slot too", () => {
    withGuest("f4", ({ vm, vcpu }) => {
      const slot = vm.addMemory({ gpa: 0x90000, size: 4096 });
      const { bytes } = slot;
      slot.remove();
      slot.remove();
      expect(bytes.length).toBe(0);
      expect(() => slot.bytes).toThrow(ClosedError);
      expect(vm.slots.length).toBe(1);
      vm.addMemory({ gpa: 0x90000, size: 8192 });
      expectExit(vcpu.run(), "hlt");
    });
  });

  it("an eventfd too", () => {
    const event = EventFd.create();
    event.close();
    event.close();
    expect(() => event.signal()).toThrow(ClosedError);
    expect(() => event.read()).toThrow(ClosedError);
  });

  it("closing while an access is pending is harmless", () => {
    withGuest("e4 10 f4", ({ vm, vcpu }) => {
      const { data } = expectExit(vcpu.run(), "io");
      vm.close();
      expect(() => data.setUint8(0, 1)).toThrow(TypeError);
    });
  });
});

suite("memory slot flags", { needs: ["kvm"] }, () => {
  it("logDirty reads back", () => {
    withGuest("f4", ({ ram, vcpu }) => {
      expect(ram.logDirty).toBe(false);
      ram.logDirty = true;
      expect(ram.logDirty).toBe(true);
      expect(Mem.LOG_DIRTY_PAGES).toBe(1);
      runUntil(vcpu, "hlt");
    });
  });
});
