// SPDX-License-Identifier: Apache-2.0
/** Doorbells and interrupts: ioeventfd, irqfd, MSI, routing, irqchip. */
import { expect, it } from "vitest";
import { EventFd, Irqchip, setupLongMode } from "../../src/kvm/index.js";
import { suite } from "../support/capabilities.js";
import { ENTRY, expectExit, type Guest, hex, withGuest } from "../support/raw-guest.js";

const VECTOR = 0x40;
const ISR = 0x3000;

/** Real mode: a handler for VECTOR that writes to port 0x55, and a local APIC that is switched on. */
function withHandler(use: (guest: Guest) => void): void {
  withGuest(
    "fb f4 e6 56 eb fb ; next: sti; hlt; out 0x56, al; jmp next",
    (guest) => {
      const { ram, vcpu, vm } = guest;
      ram.view.setUint16(VECTOR * 4, ISR, true);
      vm.write(ISR, hex("e6 55 cf ; out 0x55, al; iret"));
      const lapic = vcpu.getLapic();
      lapic.set([0xff, 0x01], 0xf0); // spurious-interrupt vector register: enable
      vcpu.setLapic(lapic);
      use(guest);
    },
    { irqchip: true },
  );
}

suite("ioeventfd", { needs: ["kvm"] }, () => {
  it("takes port writes in the kernel", () => {
    withGuest(
      "b0 05 e6 20 e6 20 e6 21 f4 ; al = 5; out 0x20, al (twice); out 0x21, al; hlt",
      ({ vm, vcpu }) => {
        using event = EventFd.create();
        const bell = vm.ioeventfd(event, { address: 0x20, length: 1, pio: true });
        expect(expectExit(vcpu.run(), "io").port).toBe(0x21);
        expect(event.read()).toBe(2n);
        expect(event.read()).toBe(0n);
        bell.remove();
        bell.remove();
        vcpu.setRegs({ rip: BigInt(ENTRY) });
        vcpu.run();
        vcpu.setRegs({ rip: BigInt(ENTRY) });
        expect(expectExit(vcpu.run(), "io").port).toBe(0x20);
      },
    );
  });

  it("with a match takes that value only, of memory-mapped writes too", () => {
    const code = "c7 07 01 00 00 00 c7 07 02 00 00 00 f4 ; dword [rdi] = 1; dword [rdi] = 2; hlt";
    withGuest(code, ({ vm, vcpu }) => {
      setupLongMode(vm, vcpu, { entry: ENTRY, argument: 0xd000_0000n });
      using event = EventFd.create();
      vm.ioeventfd(event, { address: 0xd000_0000n, length: 4, match: 1 });
      const exit = expectExit(vcpu.run(), "mmio");
      expect(exit.data.getUint32(0, true)).toBe(2);
      expect(event.read()).toBe(1n);
      expect(() => vm.ioeventfd(event, { address: 1, length: 0, match: 1 })).toThrow(
        expect.objectContaining({ code: "E_INVALID" }),
      );
    });
  });

  it("reaches the event loop", async () => {
    await withGuest("e6 20 f4", async ({ vm, vcpu }) => {
      const event = EventFd.create();
      const seen = new Promise<bigint>((resolve) => event.onSignal(resolve));
      vm.ioeventfd(event, { address: 0x20, length: 1, pio: true });
      expectExit(vcpu.run(), "hlt");
      expect(await seen).toBe(1n);
      event.close();
    });
  });
});

suite("interrupts", { needs: ["kvm"] }, () => {
  it("an MSI wakes a halted vCPU and runs its handler", () => {
    withHandler(({ vm, vcpu }) => {
      expect(vm.signalMsi({ address: 0xfee0_0000n, data: VECTOR })).toBeGreaterThan(0);
      expect(expectExit(vcpu.run(), "io").port).toBe(0x55);
      expect(expectExit(vcpu.run(), "io").port).toBe(0x56);
    });
  });

  it("an irqfd does, by a route", () => {
    withHandler(({ vm, vcpu }) => {
      using event = EventFd.create();
      vm.setRouting([{ gsi: 5, msi: { address: 0xfee0_0000n, data: VECTOR } }]);
      const line = vm.irqfd(event, 5);
      event.signal();
      expect(expectExit(vcpu.run(), "io").port).toBe(0x55);
      expect(expectExit(vcpu.run(), "io").port).toBe(0x56);
      line.remove();
    });
  });

  it("an IOAPIC line does, by its redirection entry", () => {
    withHandler(({ vm, vcpu }) => {
      const { redirtbl } = vm.getIoapic();
      expect(redirtbl.length).toBe(24);
      expect(((redirtbl[9] ?? 0n) >> 16n) & 1n).toBe(1n); // masked after reset
      redirtbl[9] = BigInt(VECTOR); // fixed, edge, to APIC 0
      vm.setIoapic({ redirtbl });
      expect(vm.getIoapic().redirtbl[9]).toBe(BigInt(VECTOR));
      vm.setIrqLine(9, true);
      expect(expectExit(vcpu.run(), "io").port).toBe(0x55);
      vm.setIrqLine(9, false);
    });
  });

  it("the PICs' state is there", () => {
    withHandler(({ vm }) => {
      vm.setPic(Irqchip.PIC_MASTER, { imr: 0xfb, irq_base: 0x20 });
      expect(vm.getPic(Irqchip.PIC_MASTER)).toMatchObject({ imr: 0xfb, irq_base: 0x20 });
    });
  });

  it("without an irqchip, user space injects them", () => {
    withGuest("fb e6 54 90 f4 ; sti; out 0x54, al; nop; hlt", ({ ram, vm, vcpu }) => {
      ram.view.setUint16(VECTOR * 4, ISR, true);
      vm.write(ISR, hex("e6 55 cf"));
      expect(expectExit(vcpu.run(), "io").port).toBe(0x54);
      vcpu.completeIo();
      expect(vcpu.interruptFlag).toBe(true);
      expect(vcpu.readyForInterrupt).toBe(true);
      vcpu.interrupt(VECTOR);
      expect(expectExit(vcpu.run(), "io").port).toBe(0x55);
      expectExit(vcpu.run(), "hlt");
    });
  });

  it("kvmclock goes on from where it is set", () => {
    withHandler(({ vm }) => {
      vm.setClock(5_000_000_000n);
      const { clock } = vm.getClock();
      expect(clock).toBeGreaterThanOrEqual(5_000_000_000n);
      expect(clock).toBeLessThan(60_000_000_000n);
    });
  });
});

suite("interrupt windows", { needs: ["linux-guest"] }, () => {
  it("come out as soon as the guest can take an interrupt", () => {
    withGuest("90 fb 90 90 f4 ; nop; sti; nop; nop; hlt", ({ vcpu }) => {
      vcpu.requestInterruptWindow = true;
      expectExit(vcpu.run(), "irq-window-open");
      expect(vcpu.readyForInterrupt).toBe(true);
      vcpu.requestInterruptWindow = false;
      expectExit(vcpu.run(), "hlt");
    });
  });
});
