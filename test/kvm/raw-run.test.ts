// SPDX-License-Identifier: Apache-2.0
/** What comes out of `vcpu.run()` for real guests. */
import { expect, it } from "vitest";
import { getValue, setupLongMode, setValue } from "../../src/kvm/index.js";
import { suite } from "../support/capabilities.js";
import { ENTRY, expectExit, hex, runUntil, withGuest } from "../support/raw-guest.js";

suite("vcpu.run: port I/O", { needs: ["kvm"] }, () => {
  it("a write shows port, size, direction and data", () => {
    withGuest("b0 41 e6 10 b8 34 12 ba 78 03 ef f4", ({ vcpu }) => {
      const first = expectExit(vcpu.run(), "io");
      expect(first).toMatchObject({ direction: "out", port: 0x10, size: 1, count: 1 });
      expect(first.data.getUint8(0)).toBe(0x41);
      const second = expectExit(vcpu.run(), "io");
      expect(second).toMatchObject({ direction: "out", port: 0x378, size: 2, count: 1 });
      expect(second.data.getUint16(0, true)).toBe(0x1234);
      expectExit(vcpu.run(), "hlt");
    });
  });

  it("a read takes what is put into data, for each width", () => {
    for (const [code, size, answer] of [
      ["ec f4", 1, 0x5an],
      ["ed f4", 2, 0xbeefn],
      ["66 ed f4", 4, 0xcafef00dn],
    ] as const) {
      withGuest(code, ({ vcpu }) => {
        vcpu.setRegs({ rdx: 0x60n, rax: 0n });
        const exit = expectExit(vcpu.run(), "io");
        expect(exit).toMatchObject({ direction: "in", port: 0x60, size, count: 1 });
        expect(exit.data.byteLength).toBe(size);
        setValue(exit.data, answer);
        expectExit(vcpu.run(), "hlt");
        expect(vcpu.getRegs().rax).toBe(answer);
      });
    }
  });

  it("string output gives all bytes in order", () => {
    withGuest("f3 6e f4 ; rep outsb; hlt", ({ vcpu, ram }) => {
      ram.bytes.set(Buffer.from("bytes"), 0x2000);
      vcpu.setRegs({ rsi: 0x2000n, rcx: 5n, rdx: 0x3f8n });
      let text = "";
      for (let exit = vcpu.run(); exit.reason === "io"; exit = vcpu.run()) {
        expect(exit.data.byteLength).toBe(exit.count);
        text += Buffer.from(exit.data.buffer, exit.data.byteOffset, exit.count).toString();
      }
      expect(text).toBe("bytes");
    });
  });

  it("completeIo makes the effect visible before the guest runs on", () => {
    withGuest("e4 10 f4 ; in al, 0x10; hlt", ({ vcpu }) => {
      setValue(expectExit(vcpu.run(), "io").data, 0x77);
      vcpu.completeIo();
      expect(vcpu.getRegs()).toMatchObject({ rip: BigInt(ENTRY + 2) });
      expect(vcpu.getRegs().rax & 0xffn).toBe(0x77n);
      expectExit(vcpu.run(), "hlt");
    });
  });
});

suite("vcpu.run: memory-mapped I/O", { needs: ["kvm"] }, () => {
  it("reads and writes outside RAM come out with address, size and data", () => {
    const code = "b8 00 f0 8e d8 a1 08 00 40 a3 0a 00 f4 ; ds = 0xf000; ax = [8]; ax++; [10] = ax; hlt";
    withGuest(code, ({ vcpu }) => {
      const read = expectExit(vcpu.run(), "mmio");
      expect(read).toMatchObject({ direction: "read", address: 0xf0008n, size: 2 });
      setValue(read.data, 0x1fff);
      const write = expectExit(vcpu.run(), "mmio");
      expect(write).toMatchObject({ direction: "write", address: 0xf000an, size: 2 });
      expect(getValue(write.data)).toBe(0x2000n);
      expectExit(vcpu.run(), "hlt");
    });
  });

  it("eight bytes at once in 64-bit mode", () => {
    const code = "48 8b 07 48 ff c0 48 89 47 08 f4 ; rax = [rdi]; rax++; [rdi + 8] = rax; hlt";
    withGuest(code, ({ vm, vcpu }) => {
      setupLongMode(vm, vcpu, { entry: ENTRY, argument: 0xd000_0000n });
      const read = expectExit(vcpu.run(), "mmio");
      expect(read).toMatchObject({ direction: "read", address: 0xd000_0000n, size: 8 });
      setValue(read.data, 0xfedc_ba98_7654_3210n);
      const write = expectExit(vcpu.run(), "mmio");
      expect(write).toMatchObject({ direction: "write", address: 0xd000_0008n, size: 8 });
      expect(getValue(write.data)).toBe(0xfedc_ba98_7654_3211n);
      expectExit(vcpu.run(), "hlt");
    });
  });
});

suite("vcpu.run: other exits", { needs: ["kvm"] }, () => {
  it("single steps come out after each instruction", () => {
    withGuest("40 40 40 f4 ; inc ax (three times); hlt", ({ vcpu }) => {
      vcpu.setRegs({ rax: 0n });
      vcpu.setGuestDebug({ singleStep: true });
      for (let step = 1; step <= 3; step++) {
        let exit = expectExit(vcpu.run(), "debug");
        if (step === 1 && exit.pc === BigInt(ENTRY)) {
          exit = expectExit(vcpu.run(), "debug"); // Bochs also comes out before the first instruction
        }
        expect(exit.pc).toBe(BigInt(ENTRY + step));
        expect(vcpu.getRegs().rax).toBe(BigInt(step));
      }
      vcpu.setGuestDebug({});
      expectExit(vcpu.run(), "hlt");
    });
  });

  it("a kick before the run ends it before the guest does anything", () => {
    withGuest("e6 10 f4", ({ vcpu }) => {
      vcpu.kick();
      expect(vcpu.run()).toEqual({ reason: "intr", kicked: true });
      expect(vcpu.getRegs().rip).toBe(BigInt(ENTRY));
      expectExit(vcpu.run(), "io");
    });
  });

  it("runs on after hundreds of exits", () => {
    withGuest("b9 f4 01 e6 10 e2 fc f4 ; cx = 500; next: out 0x10, al; loop next; hlt", ({ vcpu }) => {
      const exits = runUntil(vcpu, "hlt");
      expect(exits.length).toBe(501);
      expect(exits.slice(0, 500).every(({ reason }) => reason === "io")).toBe(true);
    });
  });

  it("code put in place between runs is what runs", () => {
    withGuest("f4", ({ vcpu, vm }) => {
      expectExit(vcpu.run(), "hlt");
      vm.write(ENTRY, hex("b0 99 e6 20 f4"));
      vcpu.setRegs({ rip: BigInt(ENTRY) });
      expect(expectExit(vcpu.run(), "io").data.getUint8(0)).toBe(0x99);
    });
  });
});

suite("vcpu.run: triple faults", { needs: ["triple-fault"] }, () => {
  it("a triple fault is a shutdown", () => {
    withGuest("0f 0b ; ud2", ({ vm, vcpu }) => {
      setupLongMode(vm, vcpu, { entry: ENTRY });
      vcpu.setSregs({ idt: { base: 0n, limit: 0 } });
      expectExit(vcpu.run(), "shutdown");
    });
  });
});

// Not `linux-guest`: QEMU's emulation of AMD-V lets INT3 and debug registers pass without an exit.
suite("vcpu.run: breakpoints", { needs: ["vmx"] }, () => {
  it("an INT3 comes out where software breakpoints are on", () => {
    withGuest("40 cc 40 f4 ; inc ax; int3; inc ax; hlt", ({ vcpu, ram }) => {
      ram.view.setUint16(3 * 4, ENTRY + 3, true); // where it lands if nothing comes out: at the hlt
      vcpu.setGuestDebug({ softwareBreakpoints: true });
      expect(expectExit(vcpu.run(), "debug")).toMatchObject({ exception: 3, pc: BigInt(ENTRY + 1) });
    });
  });

  it("an instruction at a hardware breakpoint comes out before it runs", () => {
    withGuest("90 40 40 f4 ; nop; inc ax; inc ax; hlt", ({ vm, vcpu }) => {
      setupLongMode(vm, vcpu, { entry: ENTRY });
      vm.write(ENTRY, hex("90 90 ff c0 f4 ; nop; nop; inc eax; hlt"));
      vcpu.setGuestDebug({ hardwareBreakpoints: [BigInt(ENTRY + 2)] });
      expect(expectExit(vcpu.run(), "debug").pc).toBe(BigInt(ENTRY + 2));
      expect(vcpu.getRegs().rax).toBe(0n);
      vcpu.setGuestDebug({});
      expectExit(vcpu.run(), "hlt");
    });
  });
});
