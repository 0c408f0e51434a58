// SPDX-License-Identifier: Apache-2.0
/** Numbers of <linux/kvm.h>, names without their KVM_ prefix. Compared with the header by a unit test. */

/** KVM_API_VERSION: the only one there has been since 2007. */
export const API_VERSION = 12;

/** KVM_CAP_*: for `checkExtension` and `enableCap`. */
export const Cap = {
  IRQCHIP: 0,
  HLT: 1,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  VAPIC: 6,
  EXT_CPUID: 7,
  CLOCKSOURCE: 8,
  NR_VCPUS: 9,
  NR_MEMSLOTS: 10,
  PIT: 11,
  MP_STATE: 14,
  COALESCED_MMIO: 15,
  SYNC_MMU: 16,
  USER_NMI: 22,
  SET_GUEST_DEBUG: 23,
  IRQ_ROUTING: 25,
  IRQ_INJECT_STATUS: 26,
  MCE: 31,
  IRQFD: 32,
  PIT2: 33,
  SET_BOOT_CPU_ID: 34,
  IOEVENTFD: 36,
  SET_IDENTITY_MAP_ADDR: 37,
  ADJUST_CLOCK: 39,
  INTERNAL_ERROR_DATA: 40,
  VCPU_EVENTS: 41,
  INTR_SHADOW: 49,
  DEBUGREGS: 50,
  X86_ROBUST_SINGLESTEP: 51,
  ENABLE_CAP: 54,
  XSAVE: 55,
  XCRS: 56,
  ASYNC_PF: 59,
  TSC_CONTROL: 60,
  GET_TSC_KHZ: 61,
  MAX_VCPUS: 66,
  TSC_DEADLINE_TIMER: 72,
  SYNC_REGS: 74,
  KVMCLOCK_CTRL: 76,
  SIGNAL_MSI: 77,
  READONLY_MEM: 81,
  IRQFD_RESAMPLE: 82,
  DEVICE_CTRL: 89,
  EXT_EMUL_CPUID: 95,
  ENABLE_CAP_VM: 98,
  IOEVENTFD_NO_LENGTH: 100,
  CHECK_EXTENSION_VM: 105,
  DISABLE_QUIRKS: 116,
  X86_SMM: 117,
  SPLIT_IRQCHIP: 121,
  IOEVENTFD_ANY_LENGTH: 122,
  MAX_VCPU_ID: 128,
  X2APIC_API: 129,
  IMMEDIATE_EXIT: 136,
  X86_DISABLE_EXITS: 143,
  GET_MSR_FEATURES: 153,
  NESTED_STATE: 157,
  COALESCED_PIO: 162,
  EXCEPTION_PAYLOAD: 164,
  MANUAL_DIRTY_LOG_PROTECT2: 168,
  PMU_EVENT_FILTER: 173,
  HALT_POLL: 182,
  ASYNC_PF_INT: 183,
  STEAL_TIME: 187,
  X86_USER_SPACE_MSR: 188,
  X86_MSR_FILTER: 189,
  DIRTY_LOG_RING: 192,
  X86_BUS_LOCK_EXIT: 193,
  SET_GUEST_DEBUG2: 195,
  SREGS2: 200,
  EXIT_HYPERCALL: 201,
  BINARY_STATS_FD: 203,
  EXIT_ON_EMULATION_FAILURE: 204,
  VM_GPA_BITS: 207,
  XSAVE2: 208,
  SYS_ATTRIBUTES: 209,
  PMU_CAPABILITY: 212,
  DISABLE_QUIRKS2: 213,
  VM_TSC_CONTROL: 214,
  SYSTEM_EVENT_DATA: 215,
  X86_TRIPLE_FAULT_EVENT: 218,
  X86_NOTIFY_VMEXIT: 219,
  DIRTY_LOG_RING_ACQ_REL: 223,
} as const;
export type CapName = keyof typeof Cap;

/** KVM_EXIT_*: kvm_run.exit_reason. */
export const ExitReason = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  SET_TPR: 11,
  TPR_ACCESS: 12,
  NMI: 16,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  X86_RDMSR: 29,
  X86_WRMSR: 30,
  DIRTY_RING_FULL: 31,
  X86_BUS_LOCK: 33,
  NOTIFY: 37,
} as const;

/** KVM_EXIT_IO_*. */
export const IO_IN = 0;
export const IO_OUT = 1;

/** KVM_INTERNAL_ERROR_*. */
export const InternalError = {
  EMULATION: 1,
  SIMUL_EX: 2,
  DELIVERY_EV: 3,
  UNEXPECTED_EXIT_REASON: 4,
} as const;
/** KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES */
export const EMULATION_FLAG_INSTRUCTION_BYTES = 1n;

/** KVM_SYSTEM_EVENT_*. */
export const SystemEvent = {
  SHUTDOWN: 1,
  RESET: 2,
  CRASH: 3,
  WAKEUP: 4,
  SUSPEND: 5,
  SEV_TERM: 6,
} as const;

/** KVM_MEM_*: flags of a memory slot. */
export const Mem = { LOG_DIRTY_PAGES: 1, READONLY: 2 } as const;

/** KVM_MP_STATE_*. */
export const MpState = {
  RUNNABLE: 0,
  UNINITIALIZED: 1,
  INIT_RECEIVED: 2,
  HALTED: 3,
  SIPI_RECEIVED: 4,
  STOPPED: 5,
} as const;

/** KVM_GUESTDBG_*. */
export const GuestDebug = {
  ENABLE: 0x1,
  SINGLESTEP: 0x2,
  USE_SW_BP: 0x10000,
  USE_HW_BP: 0x20000,
  INJECT_DB: 0x40000,
  INJECT_BP: 0x80000,
  BLOCKIRQ: 0x100000,
} as const;

/** KVM_VCPUEVENT_VALID_*: which parts of kvm_vcpu_events a set takes. */
export const VcpuEventValid = {
  NMI_PENDING: 0x1,
  SIPI_VECTOR: 0x2,
  SHADOW: 0x4,
  SMM: 0x8,
  PAYLOAD: 0x10,
  TRIPLE_FAULT: 0x20,
} as const;

/** KVM_IOEVENTFD_FLAG_*. */
export const IoEventFdFlag = { DATAMATCH: 1, PIO: 2, DEASSIGN: 4 } as const;

/** KVM_IRQFD_FLAG_*. */
export const IrqFdFlag = { DEASSIGN: 1, RESAMPLE: 2 } as const;

/** KVM_IRQ_ROUTING_*. */
export const IrqRouting = { IRQCHIP: 1, MSI: 2 } as const;

/** KVM_IRQCHIP_*: chip ids. */
export const Irqchip = { PIC_MASTER: 0, PIC_SLAVE: 1, IOAPIC: 2 } as const;

/** KVM_CLOCK_*: flags of kvm_clock_data. */
export const ClockFlag = { TSC_STABLE: 2, REALTIME: 4, HOST_TSC: 8 } as const;

/** KVM_CPUID_FLAG_SIGNIFCANT_INDEX (the header's spelling). */
export const CPUID_FLAG_SIGNIFCANT_INDEX = 1;

/** KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_DIRTY_LOG_INITIALLY_SET. */
export const DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1;
export const DIRTY_LOG_INITIALLY_SET = 2;

/** KVM_STATS_*. */
export const StatsType = { CUMULATIVE: 0, INSTANT: 1, PEAK: 2, LINEAR_HIST: 3, LOG_HIST: 4 } as const;
