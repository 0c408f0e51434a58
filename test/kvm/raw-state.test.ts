// SPDX-License-Identifier: Apache-2.0
/** System facts and vCPU state: what is set is what is read. */
import { expect, it } from "vitest";
import { Cap, Kvm, KvmError, MpState, setupLongMode } from "../../src/kvm/index.js";
import { suite } from "../support/capabilities.js";
import { ENTRY, expectExit, withGuest } from "../support/raw-guest.js";

const MSR_SYSENTER_CS = 0x174;
const MSR_KERNEL_GS_BASE = 0xc000_0102;
const MSR_NOBODY_HAS = 0x1234_5678;

suite("/dev/kvm", { needs: ["kvm"] }, () => {
  it("tells version, mapping size and extensions", () => {
    const kvm = Kvm.open();
    expect(kvm.apiVersion).toBe(12);
    expect(kvm.vcpuMmapSize).toBeGreaterThanOrEqual(4096);
    const extensions = kvm.extensions();
    expect(Object.keys(extensions)).toEqual(Object.keys(Cap));
    expect(extensions.USER_MEMORY).toBeGreaterThan(0);
    expect(extensions.IMMEDIATE_EXIT).toBe(1);
    expect(kvm.checkExtension(Cap.NR_MEMSLOTS)).toBe(extensions.NR_MEMSLOTS);
    kvm.close();
    expect(() => kvm.apiVersion).toThrow(expect.objectContaining({ code: "E_CLOSED" }));
  });

  it("lists CPUID leaves and MSRs", () => {
    const kvm = Kvm.open();
    const leaves = kvm.supportedCpuid();
    const vendor = leaves.find((leaf) => leaf.function === 0);
    const name = Buffer.alloc(12);
    [vendor?.ebx, vendor?.edx, vendor?.ecx].forEach((word, i) => {
      name.writeUInt32LE(word ?? 0, i * 4);
    });
    expect(name.toString()).toMatch(/^(GenuineIntel|AuthenticAMD|HygonGenuine|CentaurHauls)$/);
    expect(leaves.some((leaf) => leaf.function === 0x8000_0001)).toBe(true);
    expect(kvm.emulatedCpuid()).toBeInstanceOf(Array);
    expect(kvm.msrIndices()).toContain(MSR_SYSENTER_CS);
    expect(kvm.msrFeatureIndices()).toBeInstanceOf(Array);
    kvm.close();
  });

  it("says what is wrong with a path that is not KVM", () => {
    expect(() => Kvm.open("/nonexistent")).toThrow(
      expect.objectContaining({ code: "E_NO_KVM", errno: "ENOENT", hint: expect.stringContaining("v2m") }),
    );
    expect(() => Kvm.open("/dev/null")).toThrow(expect.objectContaining({ code: "E_NO_KVM" }));
  });
});

suite("vCPU state", { needs: ["kvm"] }, () => {
  it("general registers: each on its own, others untouched", () => {
    withGuest("f4", ({ vcpu }) => {
      const before = vcpu.getRegs();
      const names = (Object.keys(before) as (keyof typeof before)[]).filter((name) => name !== "rflags");
      names.forEach((name, i) => {
        vcpu.setRegs({ [name]: 0x1000n + BigInt(i) });
      });
      const after = vcpu.getRegs();
      names.forEach((name, i) => {
        expect(after[name], name).toBe(0x1000n + BigInt(i));
      });
      expect(after.rflags).toBe(before.rflags);
    });
  });

  it("64-bit values survive in 64-bit mode and reach the guest", () => {
    withGuest("48 01 d8 f4 ; add rax, rbx; hlt", ({ vm, vcpu }) => {
      setupLongMode(vm, vcpu, { entry: ENTRY });
      vcpu.setRegs({ rax: 0xffff_ffff_0000_0000n, rbx: 0x1234n, r15: (1n << 63n) | 1n });
      expectExit(vcpu.run(), "hlt");
      expect(vcpu.getRegs()).toMatchObject({ rax: 0xffff_ffff_0000_1234n, r15: (1n << 63n) | 1n });
    });
  });

  it("segments and control registers change in part", () => {
    withGuest("f4", ({ vcpu }) => {
      const before = vcpu.getSregs();
      vcpu.setSregs({ fs: { base: 0x12340n, selector: 0x1234 }, gdt: { base: 0x500n, limit: 23 } });
      const after = vcpu.getSregs();
      expect(after).toEqual({
        ...before,
        fs: { ...before.fs, base: 0x12340n, selector: 0x1234 },
        gdt: { base: 0x500n, limit: 23 },
      });
    });
  });

  it("refuses a field that does not exist, before KVM sees it", () => {
    withGuest("f4", ({ vcpu }) => {
      expect(() => vcpu.setRegs({ eax: 1n } as never)).toThrow(
        expect.objectContaining({ code: "E_INVALID", message: expect.stringContaining("eax") }),
      );
    });
  });

  it("x87 and SSE registers", () => {
    withGuest("f4", ({ vcpu }) => {
      const xmm = Array.from({ length: 16 }, (_, i) => new Uint8Array(16).fill(i + 1));
      vcpu.setFpu({ xmm, fcw: 0x27f });
      const fpu = vcpu.getFpu();
      expect(fpu.xmm.map((register) => register[7])).toEqual(xmm.map((register) => register[7]));
      expect(fpu.fcw).toBe(0x27f);
    });
  });

  it("MSRs; an unknown one is named", () => {
    withGuest("f4", ({ vcpu }) => {
      vcpu.setMsrs([
        [MSR_SYSENTER_CS, 0x8n],
        [MSR_KERNEL_GS_BASE, 0x7fff_1234_5678n],
      ]);
      expect(vcpu.getMsrs([MSR_KERNEL_GS_BASE, MSR_SYSENTER_CS])).toEqual(
        new Map([
          [MSR_KERNEL_GS_BASE, 0x7fff_1234_5678n],
          [MSR_SYSENTER_CS, 8n],
        ]),
      );
      expect(() => vcpu.getMsrs([MSR_SYSENTER_CS, MSR_NOBODY_HAS])).toThrow(
        expect.objectContaining({ code: "E_UNSUPPORTED", value: BigInt(MSR_NOBODY_HAS) }),
      );
      expect(() => vcpu.setMsr(MSR_NOBODY_HAS, 1n)).toThrow(KvmError);
    });
  });

  it("CPUID is what was set, and what the guest sees", () => {
    withGuest("66 b8 00 00 00 40 0f a2 f4 ; eax = 0x40000000; cpuid; hlt", ({ kvm, vcpu }) => {
      const leaves = kvm
        .supportedCpuid()
        .filter((leaf) => leaf.function !== 0x4000_0000)
        .concat({
          function: 0x4000_0000,
          index: 0,
          flags: 0,
          eax: 0x4000_0001,
          ebx: 0x564d4d48,
          ecx: 2,
          edx: 3,
        });
      vcpu.setCpuid(leaves);
      expect(vcpu.getCpuid().find((leaf) => leaf.function === 0x4000_0000)).toMatchObject({
        ebx: 0x564d4d48,
        ecx: 2,
      });
      expectExit(vcpu.run(), "hlt");
      expect(vcpu.getRegs().rbx & 0xffff_ffffn).toBe(0x564d4d48n);
    });
  });

  it("debug registers and pending events", () => {
    withGuest("f4", ({ vcpu }) => {
      vcpu.setDebugRegs({ db: [0x1000n, 0n, 0n, 0x3000n] });
      expect(vcpu.getDebugRegs().db).toEqual([0x1000n, 0n, 0n, 0x3000n]);
      expect(vcpu.getEvents().exception.injected).toBe(0);
      vcpu.setEvents({ nmi: { masked: 1 } });
      expect(vcpu.getEvents().nmi.masked).toBe(1);
    });
  });

  it("translates through the guest's page tables", () => {
    withGuest("f4", ({ vm, vcpu }) => {
      setupLongMode(vm, vcpu, { entry: ENTRY });
      expect(vcpu.translate(0x12_3456n)).toMatchObject({ valid: true, physicalAddress: 0x12_3456n });
      expect(vcpu.translate(0x1_0000_0000n).valid).toBe(false);
    });
  });

  it("TSC frequency", () => {
    withGuest("f4", ({ kvm, vcpu }) => {
      if (kvm.checkExtension("GET_TSC_KHZ") !== 0) {
        expect(vcpu.getTscKhz()).toBeGreaterThan(1000);
      }
    });
  });

  it("XSAVE and XCR0 where the host has them, a clear error elsewhere", () => {
    withGuest("f4", ({ kvm, vcpu }) => {
      if (kvm.checkExtension("XSAVE") !== 0) {
        const area = vcpu.getXsave();
        expect(area.byteLength).toBeGreaterThanOrEqual(4096);
        vcpu.setXsave(area);
      } else {
        expect(() => vcpu.getXsave()).toThrow(KvmError);
      }
      if (kvm.checkExtension("XCRS") !== 0) {
        expect((vcpu.getXcrs().get(0) ?? 0n) & 1n).toBe(1n);
      } else {
        expect(() => vcpu.getXcrs()).toThrow(KvmError);
      }
      expect(() => vcpu.setXsave(new Uint8Array(100))).toThrow(
        expect.objectContaining({ code: "E_INVALID" }),
      );
    });
  });

  it("local APIC and multiprocessor state, with the irqchip", () => {
    withGuest(
      "f4",
      ({ vm, vcpu }) => {
        const lapic = vcpu.getLapic();
        expect(lapic.byteLength).toBe(1024);
        lapic[0xf0] = 0xff;
        lapic[0xf1] = 0x01;
        vcpu.setLapic(lapic);
        expect([...vcpu.getLapic().subarray(0xf0, 0xf2)]).toEqual([0xff, 0x01]);
        expect(vcpu.getMpState()).toBe(MpState.RUNNABLE);
        const second = vm.createVcpu(1);
        expect(second.getMpState()).toBe(MpState.UNINITIALIZED);
        second.setMpState(MpState.RUNNABLE);
        expect(second.getMpState()).toBe(MpState.RUNNABLE);
      },
      { irqchip: true },
    );
  });
});
