// SPDX-License-Identifier: Apache-2.0
/** Decoding of kvm_run, on buffers that are filled by hand. */
import { describe, expect, it } from "vitest";
import { ExitReason, InternalError, SystemEvent } from "../../src/kvm/constants.js";
import { ExitDecoder, getValue, setValue } from "../../src/kvm/exits.js";
import { KvmRun, RunUnion } from "../../src/kvm/structs.js";

const UNION = KvmRun.offsets.padding ?? 0;

function page(exit_reason: number, fill: (view: DataView) => void = () => {}) {
  const view = new DataView(new ArrayBuffer(3 * 4096));
  KvmRun.write(view, 0, { exit_reason });
  fill(view);
  return { view, decoder: new ExitDecoder(view) };
}

const io = (fields: Partial<ReturnType<typeof RunUnion.io.decode>>) => (view: DataView) =>
  RunUnion.io.write(view, UNION, { data_offset: 4096n, count: 1, ...fields });

describe("I/O exits", () => {
  it("port output: the data is a view on kvm_run", () => {
    const { view, decoder } = page(ExitReason.IO, io({ direction: 1, size: 2, port: 0x3f8 }));
    const exit = decoder.decode();
    expect(exit).toMatchObject({ reason: "io", direction: "out", port: 0x3f8, size: 2, count: 1 });
    view.setUint16(4096, 0xbeef, true);
    expect(exit.reason === "io" && exit.data.getUint16(0, true)).toBe(0xbeef);
  });

  it("port input: what is written into data is what KVM reads", () => {
    const { view, decoder } = page(ExitReason.IO, io({ direction: 0, size: 4, port: 0xcf8 }));
    const exit = decoder.decode();
    if (exit.reason === "io") {
      expect(exit.direction).toBe("in");
      setValue(exit.data, 0xcafef00d);
    }
    expect(view.getUint32(4096, true)).toBe(0xcafef00d);
  });

  it("string instructions give size × count bytes", () => {
    const { decoder } = page(ExitReason.IO, io({ direction: 1, size: 2, port: 1, count: 100 }));
    const exit = decoder.decode();
    expect(exit.reason === "io" && exit.data.byteLength).toBe(200);
  });

  it("no view is made twice", () => {
    const { decoder } = page(ExitReason.IO, io({ direction: 1, size: 1, port: 1 }));
    const [a, b] = [decoder.decode(), decoder.decode()];
    expect(a.reason === "io" && b.reason === "io" && a.data === b.data).toBe(true);
  });

  it("a view never reaches outside the mapping", () => {
    const { decoder } = page(ExitReason.IO, io({ direction: 1, size: 4, port: 1, count: 1 << 20 }));
    expect(() => decoder.decode()).toThrow(RangeError);
  });

  it("memory-mapped access", () => {
    const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const { decoder } = page(ExitReason.MMIO, (view) =>
      RunUnion.mmio.write(view, UNION, { phys_addr: 0xfee0_0000_0000n, data, len: 4, is_write: 1 }),
    );
    const exit = decoder.decode();
    expect(exit).toMatchObject({ reason: "mmio", direction: "write", address: 0xfee0_0000_0000n, size: 4 });
    expect(exit.reason === "mmio" && getValue(exit.data)).toBe(0x0403_0201n);
  });
});

describe("other exits", () => {
  const decode = (code: number, fill?: (view: DataView) => void) => page(code, fill).decoder.decode();

  it("without details", () => {
    expect(decode(ExitReason.HLT)).toEqual({ reason: "hlt" });
    expect(decode(ExitReason.SHUTDOWN)).toEqual({ reason: "shutdown" });
    expect(decode(ExitReason.INTR)).toEqual({ reason: "intr", kicked: false });
    expect(decode(ExitReason.IRQ_WINDOW_OPEN)).toEqual({ reason: "irq-window-open" });
    expect(decode(ExitReason.SET_TPR)).toEqual({ reason: "set-tpr" });
    expect(decode(ExitReason.NMI)).toEqual({ reason: "nmi" });
    expect(decode(ExitReason.DIRTY_RING_FULL)).toEqual({ reason: "dirty-ring-full" });
    expect(decode(ExitReason.X86_BUS_LOCK)).toEqual({ reason: "bus-lock" });
  });

  it("internal errors, with the instruction where KVM tells it", () => {
    const insn_bytes = Uint8Array.of(0x0f, 0x01, 0xd1, 9, 9);
    expect(
      decode(ExitReason.INTERNAL_ERROR, (view) =>
        RunUnion.emulation_failure.write(view, UNION, {
          suberror: InternalError.EMULATION,
          ndata: 3,
          flags: 1n,
          insn_size: 3,
          insn_bytes,
        }),
      ),
    ).toMatchObject({ reason: "internal-error", suberror: 1, instruction: Uint8Array.of(0x0f, 0x01, 0xd1) });
    expect(
      decode(ExitReason.INTERNAL_ERROR, (view) =>
        RunUnion.internal.write(view, UNION, {
          suberror: InternalError.DELIVERY_EV,
          ndata: 2,
          data: [7n, 8n],
        }),
      ),
    ).toEqual({ reason: "internal-error", suberror: 3, data: [7n, 8n], instruction: undefined });
    const mad = decode(ExitReason.INTERNAL_ERROR, (view) =>
      RunUnion.internal.write(view, UNION, { suberror: 4, ndata: 0xffff_ffff }),
    );
    expect(mad.reason === "internal-error" && mad.data.length).toBe(16);
  });

  it("failed entries, debug, system events", () => {
    expect(
      decode(ExitReason.FAIL_ENTRY, (view) =>
        RunUnion.fail_entry.write(view, UNION, { hardware_entry_failure_reason: 0x8000_0021n, cpu: 3 }),
      ),
    ).toEqual({ reason: "fail-entry", hardwareReason: 0x8000_0021n, cpu: 3 });
    expect(
      decode(ExitReason.DEBUG, (view) =>
        RunUnion.debug.write(view, UNION, { arch: { exception: 1, pc: 0x1000n, dr6: 0x4000n, dr7: 0x400n } }),
      ),
    ).toEqual({ reason: "debug", exception: 1, pc: 0x1000n, dr6: 0x4000n, dr7: 0x400n });
    expect(
      decode(ExitReason.SYSTEM_EVENT, (view) =>
        RunUnion.system_event.write(view, UNION, { type: SystemEvent.CRASH, ndata: 1, data: [5n] }),
      ),
    ).toEqual({ reason: "system-event", type: 3, data: [5n] });
  });

  it("hypercalls, exceptions, TPR, EOI, notify", () => {
    expect(
      decode(ExitReason.HYPERCALL, (view) =>
        RunUnion.hypercall.write(view, UNION, { nr: 12n, args: [1n, 2n, 3n, 4n, 5n, 6n], longmode: 1 }),
      ),
    ).toEqual({ reason: "hypercall", nr: 12n, args: [1n, 2n, 3n, 4n, 5n, 6n], longMode: true });
    expect(
      decode(ExitReason.EXCEPTION, (view) =>
        RunUnion.ex.write(view, UNION, { exception: 14, error_code: 2 }),
      ),
    ).toEqual({ reason: "exception", exception: 14, errorCode: 2 });
    expect(
      decode(ExitReason.TPR_ACCESS, (view) =>
        RunUnion.tpr_access.write(view, UNION, { rip: 9n, is_write: 1 }),
      ),
    ).toEqual({ reason: "tpr-access", rip: 9n, isWrite: true });
    expect(decode(ExitReason.IOAPIC_EOI, (view) => RunUnion.eoi.write(view, UNION, { vector: 48 }))).toEqual({
      reason: "ioapic-eoi",
      vector: 48,
    });
    expect(decode(ExitReason.NOTIFY, (view) => RunUnion.notify.write(view, UNION, { flags: 1 }))).toEqual({
      reason: "notify",
      flags: 1,
    });
  });

  it("MSR accesses are answered in place", () => {
    const { view, decoder } = page(ExitReason.X86_RDMSR, (v) =>
      RunUnion.msr.write(v, UNION, { index: 0x1234, reason: 2 }),
    );
    const exit = decoder.decode();
    expect(exit).toMatchObject({ reason: "rdmsr", index: 0x1234 });
    if (exit.reason === "rdmsr" || exit.reason === "wrmsr") {
      setValue(exit.data, 0x1122_3344_5566_7788n);
      exit.fail();
    }
    expect(RunUnion.msr.read(view, UNION)).toMatchObject({ error: 1, data: 0x1122_3344_5566_7788n });
    expect(decode(ExitReason.X86_WRMSR).reason).toBe("wrmsr");
  });

  it("reasons that nobody knows", () => {
    expect(decode(9999)).toEqual({ reason: "unknown", code: 9999, hardwareReason: 0n });
    expect(
      decode(ExitReason.UNKNOWN, (view) => RunUnion.hw.write(view, UNION, { hardware_exit_reason: 77n })),
    ).toEqual({ reason: "unknown", code: 0, hardwareReason: 77n });
  });
});

describe("getValue and setValue", () => {
  it("are little-endian, for every width up to 8", () => {
    for (let width = 1; width <= 8; width++) {
      const view = new DataView(new ArrayBuffer(width));
      setValue(view, 0x8877_6655_4433_2211n);
      expect(getValue(view)).toBe(BigInt.asUintN(8 * width, 0x8877_6655_4433_2211n));
    }
  });

  it("take numbers, and -1 for all ones", () => {
    const view = new DataView(new ArrayBuffer(4));
    setValue(view, -1);
    expect(getValue(view)).toBe(0xffff_ffffn);
  });
});
