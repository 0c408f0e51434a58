// SPDX-License-Identifier: Apache-2.0
/**
 * The state of a vCPU as plain objects. Every `get` is one ioctl and a copy. Every `set` takes part of the
 * object: it reads the state, changes what is given and writes all of it back. While the vCPU runs in
 * another thread these calls wait until it comes out of the guest.
 */
import { ArgumentError, KvmError } from "../errors.js";
import type { StructType } from "../ffi/struct.js";
import { viewOf } from "../ffi/struct.js";
import { Cap, VcpuEventValid } from "./constants.js";
import { decodeCpuid, encodeCpuid, readCpuid } from "./cpuid.js";
import type { Handle } from "./handle.js";
import { System, Vcpu as V } from "./ioctl.js";
import * as S from "./structs.js";

/** Like Partial, all the way down; arrays are given whole or not at all. */
export type Change<T> = {
  [K in keyof T]?: T[K] extends bigint | number | Uint8Array | readonly unknown[] ? T[K] : Change<T[K]>;
};

/** Where a linear address leads. */
export interface Translation {
  readonly valid: boolean;
  readonly physicalAddress: bigint;
  readonly writable: boolean;
  readonly user: boolean;
}

/** For `setGuestDebug`. */
export interface GuestDebugOptions {
  /** Come out of the guest after each instruction. */
  readonly singleStep?: boolean;
  /** Come out of the guest at INT3. */
  readonly softwareBreakpoints?: boolean;
  /** Up to four linear addresses: come out before the instruction there runs. */
  readonly hardwareBreakpoints?: readonly bigint[];
  /** Further KVM_GUESTDBG_* bits: `GuestDebug.*`. */
  readonly flags?: number;
}

const XSAVE_BYTES = 4096;

/** The part of Vcpu that gets and sets state. */
export abstract class VcpuState {
  protected abstract readonly handle: Handle;
  /** The VM's descriptor, for capabilities that are asked of the VM. */
  protected abstract readonly vmHandle: Handle;

  #get<T>(type: StructType<T>, request: number, what: string): T {
    const buffer = type.alloc();
    this.handle.ioctl(request, what, buffer);
    return type.decode(buffer);
  }

  #change<T>(type: StructType<T>, get: number, set: number, name: string, change: Change<T>): void {
    const buffer = type.alloc();
    this.handle.ioctl(get, `KVM_GET_${name}`, buffer);
    type.write(viewOf(buffer), 0, change as Partial<T>);
    this.handle.ioctl(set, `KVM_SET_${name}`, buffer);
  }

  getRegs(): S.Regs {
    return this.#get(S.KvmRegs, V.GET_REGS, "KVM_GET_REGS");
  }

  /** `vcpu.setRegs({ rip: 0x1000n, rflags: 2n })` */
  setRegs(change: Change<S.Regs>): void {
    this.#change(S.KvmRegs, V.GET_REGS, V.SET_REGS, "REGS", change);
  }

  getSregs(): S.Sregs {
    return this.#get(S.KvmSregs, V.GET_SREGS, "KVM_GET_SREGS");
  }

  /** `vcpu.setSregs({ cs: { base: 0n, selector: 0 } })`: segments may be given in part too. */
  setSregs(change: Change<S.Sregs>): void {
    this.#change(S.KvmSregs, V.GET_SREGS, V.SET_SREGS, "SREGS", change);
  }

  getFpu(): S.Fpu {
    return this.#get(S.KvmFpu, V.GET_FPU, "KVM_GET_FPU");
  }

  setFpu(change: Change<S.Fpu>): void {
    this.#change(S.KvmFpu, V.GET_FPU, V.SET_FPU, "FPU", change);
  }

  getDebugRegs(): S.DebugRegs {
    return this.#get(S.KvmDebugregs, V.GET_DEBUGREGS, "KVM_GET_DEBUGREGS");
  }

  setDebugRegs(change: Change<S.DebugRegs>): void {
    this.#change(S.KvmDebugregs, V.GET_DEBUGREGS, V.SET_DEBUGREGS, "DEBUGREGS", change);
  }

  getEvents(): S.VcpuEvents {
    return this.#get(S.KvmVcpuEvents, V.GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS");
  }

  /** What `change` does not hold stays; `flags` (VcpuEventValid) are set for the parts it holds. */
  setEvents(change: Change<S.VcpuEvents>): void {
    let flags = change.flags ?? this.getEvents().flags;
    if (change.nmi?.pending !== undefined) flags |= VcpuEventValid.NMI_PENDING;
    if (change.sipi_vector !== undefined) flags |= VcpuEventValid.SIPI_VECTOR;
    if (change.interrupt?.shadow !== undefined) flags |= VcpuEventValid.SHADOW;
    if (change.smi !== undefined) flags |= VcpuEventValid.SMM;
    this.#change(S.KvmVcpuEvents, V.GET_VCPU_EVENTS, V.SET_VCPU_EVENTS, "VCPU_EVENTS", { ...change, flags });
  }

  /** `MpState.*`. Needs the in-kernel irqchip for most states. */
  getMpState(): number {
    return this.#get(S.KvmMpState, V.GET_MP_STATE, "KVM_GET_MP_STATE").mp_state;
  }

  setMpState(state: number): void {
    this.handle.ioctl(V.SET_MP_STATE, "KVM_SET_MP_STATE", S.KvmMpState.alloc({ mp_state: state }));
  }

  /** The local APIC's registers as its page shows them: register N at byte 0x10 × N. Needs the irqchip. */
  getLapic(): Uint8Array {
    return this.#get(S.KvmLapicState, V.GET_LAPIC, "KVM_GET_LAPIC").regs;
  }

  setLapic(regs: Uint8Array): void {
    this.handle.ioctl(V.SET_LAPIC, "KVM_SET_LAPIC", S.KvmLapicState.alloc({ regs }));
  }

  /** XCR0 and others by number. @throws KvmError where the host has no XSAVE. */
  getXcrs(): Map<number, bigint> {
    const { nr_xcrs, xcrs } = this.#get(S.KvmXcrs, V.GET_XCRS, "KVM_GET_XCRS");
    return new Map(xcrs.slice(0, nr_xcrs).map(({ xcr, value }) => [xcr, value]));
  }

  setXcrs(values: ReadonlyMap<number, bigint>): void {
    const xcrs = Array.from(values, ([xcr, value]) => ({ xcr, value }));
    this.handle.ioctl(V.SET_XCRS, "KVM_SET_XCRS", S.KvmXcrs.alloc({ nr_xcrs: xcrs.length, xcrs }));
  }

  /** The XSAVE area, 4096 bytes or what the VM's features need. */
  getXsave(): Uint8Array {
    const size = this.vmHandle.ioctlValue(System.CHECK_EXTENSION, "KVM_CHECK_EXTENSION", Cap.XSAVE2);
    const area = new Uint8Array(Math.max(size, XSAVE_BYTES));
    if (size > XSAVE_BYTES) {
      this.handle.ioctl(V.GET_XSAVE2, "KVM_GET_XSAVE2", area);
    } else {
      this.handle.ioctl(V.GET_XSAVE, "KVM_GET_XSAVE", area);
    }
    return area;
  }

  setXsave(area: Uint8Array): void {
    if (area.byteLength < XSAVE_BYTES) {
      throw new ArgumentError(`an XSAVE area has at least ${XSAVE_BYTES} bytes`, {
        value: BigInt(area.byteLength),
      });
    }
    this.handle.ioctl(V.SET_XSAVE, "KVM_SET_XSAVE", area);
  }

  /** Read MSRs by index. @throws KvmError whose `value` is the first that cannot be read. */
  getMsrs(indices: readonly number[]): Map<number, bigint> {
    const buffer = encodeMsrs(indices.map((index) => [index, 0n]));
    const done = this.handle.ioctl(V.GET_MSRS, "KVM_GET_MSRS", buffer);
    checkMsrs("KVM_GET_MSRS", done, indices);
    return new Map(
      indices.map((index, i) => [index, S.KvmMsrEntry.decode(buffer, 8 + i * S.KvmMsrEntry.size).data]),
    );
  }

  getMsr(index: number): bigint {
    return this.getMsrs([index]).get(index) ?? 0n;
  }

  /** Write MSRs in order. @throws KvmError whose `value` is the first that was refused. */
  setMsrs(values: Iterable<readonly [index: number, value: bigint]>): void {
    const entries = [...values];
    const done = this.handle.ioctl(V.SET_MSRS, "KVM_SET_MSRS", encodeMsrs(entries));
    checkMsrs(
      "KVM_SET_MSRS",
      done,
      entries.map(([index]) => index),
    );
  }

  setMsr(index: number, value: bigint): void {
    this.setMsrs([[index, value]]);
  }

  getCpuid(): S.CpuidEntry[] {
    return readCpuid((buffer) => this.handle.ioctl(V.GET_CPUID2, "KVM_GET_CPUID2", buffer), decodeCpuid);
  }

  /** What CPUID tells the guest; usually `kvm.supportedCpuid()`, adapted. Before the first run. */
  setCpuid(entries: readonly Change<S.CpuidEntry>[]): void {
    this.handle.ioctl(V.SET_CPUID2, "KVM_SET_CPUID2", encodeCpuid(entries));
  }

  setGuestDebug(options: GuestDebugOptions): void {
    const addresses = options.hardwareBreakpoints ?? [];
    if (addresses.length > 4) {
      throw new ArgumentError("there are four hardware breakpoints", { value: BigInt(addresses.length) });
    }
    const debugreg = new Array<bigint>(8).fill(0n);
    addresses.forEach((address, i) => {
      debugreg[i] = address;
      debugreg[7] = (debugreg[7] ?? 0n) | (2n << BigInt(2 * i));
    });
    let control = options.flags ?? 0;
    if (options.singleStep === true) control |= 0x2;
    if (options.softwareBreakpoints === true) control |= 0x10000;
    if (addresses.length > 0) control |= 0x20000;
    if (control !== 0) control |= 0x1;
    const buffer = S.KvmGuestDebug.alloc({ control: control >>> 0, arch: { debugreg } });
    this.handle.ioctl(V.SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG", buffer);
  }

  /** Walk the guest's page tables. */
  translate(linearAddress: bigint): Translation {
    const buffer = S.KvmTranslation.alloc({ linear_address: linearAddress });
    this.handle.ioctl(V.TRANSLATE, "KVM_TRANSLATE", buffer);
    const { valid, physical_address, writeable, usermode } = S.KvmTranslation.decode(buffer);
    return {
      valid: valid !== 0,
      physicalAddress: physical_address,
      writable: writeable !== 0,
      user: usermode !== 0,
    };
  }

  /** Frequency of the guest's TSC in kHz. */
  getTscKhz(): number {
    return this.handle.ioctlValue(V.GET_TSC_KHZ, "KVM_GET_TSC_KHZ");
  }

  setTscKhz(khz: number): void {
    this.handle.ioctlValue(V.SET_TSC_KHZ, "KVM_SET_TSC_KHZ", khz);
  }

  /** Queue an external interrupt. Only without the in-kernel irqchip. */
  interrupt(vector: number): void {
    this.handle.ioctl(V.INTERRUPT, "KVM_INTERRUPT", S.KvmInterrupt.alloc({ irq: vector }));
  }

  nmi(): void {
    this.handle.ioctlValue(V.NMI, "KVM_NMI");
  }

  /** Tell the guest that it was paused, so that its watchdogs don't bark. Needs a guest with kvmclock. */
  notifyPaused(): void {
    this.handle.ioctlValue(V.KVMCLOCK_CTRL, "KVM_KVMCLOCK_CTRL");
  }
}

function encodeMsrs(entries: readonly (readonly [number, bigint])[]): Uint8Array {
  const buffer = new Uint8Array(8 + entries.length * S.KvmMsrEntry.size);
  const view = viewOf(buffer);
  view.setUint32(0, entries.length, true);
  entries.forEach(([index, data], i) => {
    S.KvmMsrEntry.write(view, 8 + i * S.KvmMsrEntry.size, { index, data });
  });
  return buffer;
}

function checkMsrs(what: string, done: number, indices: readonly number[]): void {
  const bad = indices[done];
  if (bad !== undefined) {
    throw new KvmError(
      "E_UNSUPPORTED",
      `${what}: MSR 0x${bad.toString(16)} is unknown or refuses the value`,
      {
        value: BigInt(bad),
      },
    );
  }
}
