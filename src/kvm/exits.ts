// SPDX-License-Identifier: Apache-2.0
/**
 * What made KVM_RUN return, as a discriminated union: `switch (exit.reason)`. `data` of I/O exits is a
 * view on kvm_run itself: for a read by the guest, write the answer there before the next `run()`. It
 * shows the next exit's data after that, so don't keep it.
 */
import { EMULATION_FLAG_INSTRUCTION_BYTES, ExitReason, IO_OUT } from "./constants.js";
import { KvmRun, RunUnion } from "./structs.js";

/** The guest used a port. `data` has size × count bytes (count > 1: string instructions). */
export interface IoExit {
  readonly reason: "io";
  /** From the guest's view: `out` writes to the port, `in` reads from it. */
  readonly direction: "in" | "out";
  readonly port: number;
  /** Bytes of one access: 1, 2 or 4. */
  readonly size: number;
  readonly count: number;
  readonly data: DataView;
}

/** The guest touched a guest-physical address that is no memory (or wrote to a read-only slot). */
export interface MmioExit {
  readonly reason: "mmio";
  readonly direction: "read" | "write";
  readonly address: bigint;
  /** Bytes, 1 to 8: the length of `data`. */
  readonly size: number;
  readonly data: DataView;
}

export interface HltExit {
  readonly reason: "hlt";
}
/** Triple fault, or a shutdown by other means. */
export interface ShutdownExit {
  readonly reason: "shutdown";
}
/** `run()` was ended from outside: a kick, or a signal. */
export interface IntrExit {
  readonly reason: "intr";
  /** True where `kick()` was the cause. */
  readonly kicked: boolean;
}
/** KVM could not go on. */
export interface InternalErrorExit {
  readonly reason: "internal-error";
  /** `InternalError.*`. */
  readonly suberror: number;
  readonly data: readonly bigint[];
  /** The instruction that could not be emulated, where KVM tells. */
  readonly instruction: Uint8Array | undefined;
}
/** The CPU refused the guest state. */
export interface FailEntryExit {
  readonly reason: "fail-entry";
  readonly hardwareReason: bigint;
  readonly cpu: number;
}
/** A breakpoint or a single step (`setGuestDebug`). */
export interface DebugExit {
  readonly reason: "debug";
  readonly exception: number;
  readonly pc: bigint;
  readonly dr6: bigint;
  readonly dr7: bigint;
}
export interface SystemEventExit {
  readonly reason: "system-event";
  /** `SystemEvent.*`. */
  readonly type: number;
  readonly data: readonly bigint[];
}
/** The guest can take an interrupt now (`requestInterruptWindow`). */
export interface IrqWindowExit {
  readonly reason: "irq-window-open";
}
/** With Cap.EXIT_HYPERCALL. */
export interface HypercallExit {
  readonly reason: "hypercall";
  readonly nr: bigint;
  readonly args: readonly bigint[];
  readonly longMode: boolean;
}
/** With Cap.X86_USER_SPACE_MSR. For a read put the value into `data` (8 bytes); `fail()` makes it a #GP. */
export interface MsrExit {
  readonly reason: "rdmsr" | "wrmsr";
  readonly index: number;
  readonly data: DataView;
  fail(): void;
}
export interface ExceptionExit {
  readonly reason: "exception";
  readonly exception: number;
  readonly errorCode: number;
}
export interface TprAccessExit {
  readonly reason: "tpr-access";
  readonly rip: bigint;
  readonly isWrite: boolean;
}
export interface IoapicEoiExit {
  readonly reason: "ioapic-eoi";
  readonly vector: number;
}
export interface NotifyExit {
  readonly reason: "notify";
  readonly flags: number;
}
export interface PlainExit {
  readonly reason: "set-tpr" | "nmi" | "dirty-ring-full" | "bus-lock";
}
/** A reason that this table does not decode; `code` is KVM_EXIT_*. */
export interface UnknownExit {
  readonly reason: "unknown";
  readonly code: number;
  readonly hardwareReason: bigint;
}

export type Exit =
  | IoExit
  | MmioExit
  | HltExit
  | ShutdownExit
  | IntrExit
  | InternalErrorExit
  | FailEntryExit
  | DebugExit
  | SystemEventExit
  | IrqWindowExit
  | HypercallExit
  | MsrExit
  | ExceptionExit
  | TprAccessExit
  | IoapicEoiExit
  | NotifyExit
  | PlainExit
  | UnknownExit;

const UNION = KvmRun.offsets.padding as number;
const REASON = KvmRun.offsets.exit_reason as number;

/** Offset in kvm_run of a field of one of the union's members. */
function at(member: keyof typeof RunUnion, field: string): number {
  return UNION + (RunUnion[member].offsets[field] as number);
}

const IO_DIRECTION = at("io", "direction");
const IO_SIZE = at("io", "size");
const IO_PORT = at("io", "port");
const IO_COUNT = at("io", "count");
const IO_DATA_OFFSET = at("io", "data_offset");
const MMIO_ADDRESS = at("mmio", "phys_addr");
const MMIO_DATA = at("mmio", "data");
const MMIO_LEN = at("mmio", "len");
const MMIO_IS_WRITE = at("mmio", "is_write");
const MSR_ERROR = at("msr", "error");
const MSR_INDEX = at("msr", "index");
const MSR_DATA = at("msr", "data");

const HLT: HltExit = Object.freeze({ reason: "hlt" });
const SHUTDOWN: ShutdownExit = Object.freeze({ reason: "shutdown" });
const IRQ_WINDOW: IrqWindowExit = Object.freeze({ reason: "irq-window-open" });

/**
 * Makes exits out of a kvm_run mapping. Keeps the small views that I/O exits hand out, so that an exit
 * allocates one object and no view.
 */
export class ExitDecoder {
  readonly #run: DataView;
  readonly #views = new Map<number, DataView>();

  /** @param run the whole mapping of the vCPU (KVM_GET_VCPU_MMAP_SIZE bytes). */
  constructor(run: DataView) {
    this.#run = run;
  }

  #data(offset: number, length: number): DataView {
    const key = offset * 4096 + length;
    let view = this.#views.get(key);
    if (view === undefined) {
      view = new DataView(this.#run.buffer, this.#run.byteOffset + offset, length);
      if (this.#views.size < 64) {
        this.#views.set(key, view);
      }
    }
    return view;
  }

  /** The exit that kvm_run shows now. */
  decode(): Exit {
    const run = this.#run;
    const code = run.getUint32(REASON, true);
    switch (code) {
      case ExitReason.IO: {
        const size = run.getUint8(IO_SIZE);
        const count = run.getUint32(IO_COUNT, true);
        return {
          reason: "io",
          direction: run.getUint8(IO_DIRECTION) === IO_OUT ? "out" : "in",
          port: run.getUint16(IO_PORT, true),
          size,
          count,
          // The offset is a page or two into the mapping: the low half is all there is.
          data: this.#data(run.getUint32(IO_DATA_OFFSET, true), size * count),
        };
      }
      case ExitReason.MMIO: {
        const size = run.getUint32(MMIO_LEN, true);
        return {
          reason: "mmio",
          direction: run.getUint8(MMIO_IS_WRITE) !== 0 ? "write" : "read",
          address: run.getBigUint64(MMIO_ADDRESS, true),
          size,
          data: this.#data(MMIO_DATA, size),
        };
      }
      case ExitReason.HLT:
        return HLT;
      case ExitReason.SHUTDOWN:
        return SHUTDOWN;
      case ExitReason.IRQ_WINDOW_OPEN:
        return IRQ_WINDOW;
      case ExitReason.INTR:
        return { reason: "intr", kicked: false };
      default:
        return this.#rare(code);
    }
  }

  #rare(code: number): Exit {
    const run = this.#run;
    switch (code) {
      case ExitReason.INTERNAL_ERROR: {
        const { suberror, ndata, data } = RunUnion.internal.read(run, UNION);
        const failure = RunUnion.emulation_failure.read(run, UNION);
        const told = ndata >= 3 && (failure.flags & EMULATION_FLAG_INSTRUCTION_BYTES) !== 0n;
        return {
          reason: "internal-error",
          suberror,
          data: data.slice(0, Math.min(ndata, 16)),
          instruction: suberror === 1 && told ? failure.insn_bytes.slice(0, failure.insn_size) : undefined,
        };
      }
      case ExitReason.FAIL_ENTRY: {
        const { hardware_entry_failure_reason, cpu } = RunUnion.fail_entry.read(run, UNION);
        return { reason: "fail-entry", hardwareReason: hardware_entry_failure_reason, cpu };
      }
      case ExitReason.DEBUG: {
        const { exception, pc, dr6, dr7 } = RunUnion.debug.read(run, UNION).arch;
        return { reason: "debug", exception, pc, dr6, dr7 };
      }
      case ExitReason.SYSTEM_EVENT: {
        const { type, ndata, data } = RunUnion.system_event.read(run, UNION);
        return { reason: "system-event", type, data: data.slice(0, Math.min(ndata, 16)) };
      }
      case ExitReason.HYPERCALL: {
        const { nr, args, longmode } = RunUnion.hypercall.read(run, UNION);
        return { reason: "hypercall", nr, args, longMode: longmode !== 0 };
      }
      case ExitReason.X86_RDMSR:
      case ExitReason.X86_WRMSR:
        return {
          reason: code === ExitReason.X86_RDMSR ? "rdmsr" : "wrmsr",
          index: run.getUint32(MSR_INDEX, true),
          data: this.#data(MSR_DATA, 8),
          fail: () => run.setUint8(MSR_ERROR, 1),
        };
      case ExitReason.EXCEPTION: {
        const { exception, error_code } = RunUnion.ex.read(run, UNION);
        return { reason: "exception", exception, errorCode: error_code };
      }
      case ExitReason.TPR_ACCESS: {
        const { rip, is_write } = RunUnion.tpr_access.read(run, UNION);
        return { reason: "tpr-access", rip, isWrite: is_write !== 0 };
      }
      case ExitReason.IOAPIC_EOI:
        return { reason: "ioapic-eoi", vector: RunUnion.eoi.read(run, UNION).vector };
      case ExitReason.NOTIFY:
        return { reason: "notify", flags: RunUnion.notify.read(run, UNION).flags };
      case ExitReason.SET_TPR:
        return { reason: "set-tpr" };
      case ExitReason.NMI:
        return { reason: "nmi" };
      case ExitReason.DIRTY_RING_FULL:
        return { reason: "dirty-ring-full" };
      case ExitReason.X86_BUS_LOCK:
        return { reason: "bus-lock" };
      default:
        return {
          reason: "unknown",
          code,
          hardwareReason: code === 0 ? RunUnion.hw.read(run, UNION).hardware_exit_reason : 0n,
        };
    }
  }
}

/** The little-endian number in a view of 1 to 8 bytes, such as `exit.data`. */
export function getValue(data: DataView): bigint {
  let value = 0n;
  for (let i = data.byteLength - 1; i >= 0; i--) {
    value = (value << 8n) | BigInt(data.getUint8(i));
  }
  return value;
}

/** Write the low bytes of `value` into a view of 1 to 8 bytes. */
export function setValue(data: DataView, value: bigint | number): void {
  let rest = BigInt.asUintN(64, BigInt(value));
  for (let i = 0; i < data.byteLength; i++) {
    data.setUint8(i, Number(rest & 0xffn));
    rest >>= 8n;
  }
}
