// SPDX-License-Identifier: Apache-2.0
/** KVM's ioctl numbers, computed as the macros of <asm-generic/ioctl.h> do. Compared with the header. */
import type { FieldType } from "../ffi/struct.js";
import * as S from "./structs.js";

const KVMIO = 0xae;
const WRITE = 1;
const READ = 2;

type Sized = Pick<FieldType<unknown>, "size"> | { readonly size: number };

function ioc(direction: number, nr: number, size: number): number {
  return ((direction << 30) | (size << 16) | (KVMIO << 8) | nr) >>> 0;
}
const io = (nr: number) => ioc(0, nr, 0);
const iow = (nr: number, type: Sized) => ioc(WRITE, nr, type.size);
const ior = (nr: number, type: Sized) => ioc(READ, nr, type.size);
const iowr = (nr: number, type: Sized) => ioc(READ | WRITE, nr, type.size);

/** Structures that end in a flexible array: only the head counts in the number. */
const MSR_LIST = { size: 4 };
const CPUID2 = { size: 8 };
const MSRS = { size: 8 };
const IRQ_ROUTING = { size: 8 };
const SIGNAL_MASK = { size: 4 };
const XSAVE = { size: 4096 };
const U64 = { size: 8 };

/** Ioctls of /dev/kvm. */
export const System = {
  GET_API_VERSION: io(0x00),
  CREATE_VM: io(0x01),
  GET_MSR_INDEX_LIST: iowr(0x02, MSR_LIST),
  CHECK_EXTENSION: io(0x03),
  GET_VCPU_MMAP_SIZE: io(0x04),
  GET_SUPPORTED_CPUID: iowr(0x05, CPUID2),
  GET_EMULATED_CPUID: iowr(0x09, CPUID2),
  GET_MSR_FEATURE_INDEX_LIST: iowr(0x0a, MSR_LIST),
} as const;

/** Ioctls of a VM. */
export const Vm = {
  CREATE_VCPU: io(0x41),
  GET_DIRTY_LOG: iow(0x42, S.KvmDirtyLog),
  SET_USER_MEMORY_REGION: iow(0x46, S.KvmUserspaceMemoryRegion),
  SET_TSS_ADDR: io(0x47),
  SET_IDENTITY_MAP_ADDR: iow(0x48, U64),
  CREATE_IRQCHIP: io(0x60),
  IRQ_LINE: iow(0x61, S.KvmIrqLevel),
  GET_IRQCHIP: iowr(0x62, S.KvmIrqchip),
  SET_IRQCHIP: ior(0x63, S.KvmIrqchip),
  SET_GSI_ROUTING: iow(0x6a, IRQ_ROUTING),
  IRQFD: iow(0x76, S.KvmIrqfd),
  SET_BOOT_CPU_ID: io(0x78),
  IOEVENTFD: iow(0x79, S.KvmIoeventfd),
  SET_CLOCK: iow(0x7b, S.KvmClockData),
  GET_CLOCK: ior(0x7c, S.KvmClockData),
  SIGNAL_MSI: iow(0xa5, S.KvmMsi),
  ENABLE_CAP: iow(0xa3, S.KvmEnableCap),
  CLEAR_DIRTY_LOG: iowr(0xc0, S.KvmClearDirtyLog),
  RESET_DIRTY_RINGS: io(0xc7),
  GET_STATS_FD: io(0xce),
} as const;

/** Ioctls of a vCPU. */
export const Vcpu = {
  RUN: io(0x80),
  GET_REGS: ior(0x81, S.KvmRegs),
  SET_REGS: iow(0x82, S.KvmRegs),
  GET_SREGS: ior(0x83, S.KvmSregs),
  SET_SREGS: iow(0x84, S.KvmSregs),
  TRANSLATE: iowr(0x85, S.KvmTranslation),
  INTERRUPT: iow(0x86, S.KvmInterrupt),
  GET_MSRS: iowr(0x88, MSRS),
  SET_MSRS: iow(0x89, MSRS),
  SET_SIGNAL_MASK: iow(0x8b, SIGNAL_MASK),
  GET_FPU: ior(0x8c, S.KvmFpu),
  SET_FPU: iow(0x8d, S.KvmFpu),
  GET_LAPIC: ior(0x8e, S.KvmLapicState),
  SET_LAPIC: iow(0x8f, S.KvmLapicState),
  SET_CPUID2: iow(0x90, CPUID2),
  GET_CPUID2: iowr(0x91, CPUID2),
  GET_MP_STATE: ior(0x98, S.KvmMpState),
  SET_MP_STATE: iow(0x99, S.KvmMpState),
  NMI: io(0x9a),
  SET_GUEST_DEBUG: iow(0x9b, S.KvmGuestDebug),
  GET_VCPU_EVENTS: ior(0x9f, S.KvmVcpuEvents),
  SET_VCPU_EVENTS: iow(0xa0, S.KvmVcpuEvents),
  GET_DEBUGREGS: ior(0xa1, S.KvmDebugregs),
  SET_DEBUGREGS: iow(0xa2, S.KvmDebugregs),
  SET_TSC_KHZ: io(0xa2),
  GET_TSC_KHZ: io(0xa3),
  GET_XSAVE: ior(0xa4, XSAVE),
  SET_XSAVE: iow(0xa5, XSAVE),
  GET_XCRS: ior(0xa6, S.KvmXcrs),
  SET_XCRS: iow(0xa7, S.KvmXcrs),
  KVMCLOCK_CTRL: io(0xad),
  GET_XSAVE2: ior(0xcf, XSAVE),
} as const;
