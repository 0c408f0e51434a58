// SPDX-License-Identifier: Apache-2.0
/** Structures of <linux/kvm.h> and <asm/kvm.h> for x86-64, with the kernel's own field names. */
import { array, bytes, i32, pad, type StructValue, struct, u8, u16, u32, u64 } from "../ffi/struct.js";

// ------------------------------------------------------------------ vCPU state

export const KvmRegs = struct("kvm_regs", {
  rax: u64,
  rbx: u64,
  rcx: u64,
  rdx: u64,
  rsi: u64,
  rdi: u64,
  rsp: u64,
  rbp: u64,
  r8: u64,
  r9: u64,
  r10: u64,
  r11: u64,
  r12: u64,
  r13: u64,
  r14: u64,
  r15: u64,
  rip: u64,
  rflags: u64,
});
/** General registers, RIP and RFLAGS. */
export type Regs = StructValue<typeof KvmRegs>;

export const KvmSegment = struct("kvm_segment", {
  base: u64,
  limit: u32,
  selector: u16,
  type: u8,
  present: u8,
  dpl: u8,
  db: u8,
  s: u8,
  l: u8,
  g: u8,
  avl: u8,
  unusable: u8,
  padding: pad(1),
});
export type Segment = StructValue<typeof KvmSegment>;

export const KvmDtable = struct("kvm_dtable", { base: u64, limit: u16, padding: pad(6, 2) });
export type Dtable = StructValue<typeof KvmDtable>;

export const KvmSregs = struct("kvm_sregs", {
  cs: KvmSegment,
  ds: KvmSegment,
  es: KvmSegment,
  fs: KvmSegment,
  gs: KvmSegment,
  ss: KvmSegment,
  tr: KvmSegment,
  ldt: KvmSegment,
  gdt: KvmDtable,
  idt: KvmDtable,
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  cr8: u64,
  efer: u64,
  apic_base: u64,
  interrupt_bitmap: array(u64, 4),
});
/** Segment, descriptor-table and control registers, EFER, APIC base. */
export type Sregs = StructValue<typeof KvmSregs>;

export const KvmFpu = struct("kvm_fpu", {
  fpr: array(bytes(16), 8),
  fcw: u16,
  fsw: u16,
  ftwx: u8,
  pad1: pad(1),
  last_opcode: u16,
  last_ip: u64,
  last_dp: u64,
  xmm: array(bytes(16), 16),
  // KVM_GET_FPU and KVM_SET_FPU leave mxcsr alone; the XSAVE area has it.
  mxcsr: pad(4, 4),
  pad2: pad(4, 4),
});
/** x87 and SSE registers. */
export type Fpu = StructValue<typeof KvmFpu>;

export const KvmMsrEntry = struct("kvm_msr_entry", { index: u32, reserved: pad(4, 4), data: u64 });

export const KvmCpuidEntry2 = struct("kvm_cpuid_entry2", {
  function: u32,
  index: u32,
  flags: u32,
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  padding: pad(12, 4),
});
/** One leaf of CPUID. */
export type CpuidEntry = StructValue<typeof KvmCpuidEntry2>;

export const KvmLapicState = struct("kvm_lapic_state", { regs: bytes(0x400) });

export const KvmMpState = struct("kvm_mp_state", { mp_state: u32 });

export const KvmDebugregs = struct("kvm_debugregs", {
  db: array(u64, 4),
  dr6: u64,
  dr7: u64,
  flags: u64,
  reserved: pad(72, 8),
});
export type DebugRegs = StructValue<typeof KvmDebugregs>;

export const KvmGuestDebug = struct("kvm_guest_debug", {
  control: u32,
  pad: pad(4, 4),
  arch: struct("kvm_guest_debug_arch", { debugreg: array(u64, 8) }),
});

export const KvmTranslation = struct("kvm_translation", {
  linear_address: u64,
  physical_address: u64,
  valid: u8,
  writeable: u8,
  usermode: u8,
  pad: pad(5),
});

export const KvmInterrupt = struct("kvm_interrupt", { irq: u32 });

export const KvmXcr = struct("kvm_xcr", { xcr: u32, reserved: pad(4, 4), value: u64 });
export const KvmXcrs = struct("kvm_xcrs", {
  nr_xcrs: u32,
  flags: u32,
  xcrs: array(KvmXcr, 16),
  padding: pad(128, 8),
});

export const KvmVcpuEvents = struct("kvm_vcpu_events", {
  exception: struct("", { injected: u8, nr: u8, has_error_code: u8, pending: u8, error_code: u32 }),
  interrupt: struct("", { injected: u8, nr: u8, soft: u8, shadow: u8 }),
  nmi: struct("", { injected: u8, pending: u8, masked: u8, pad: pad(1) }),
  sipi_vector: u32,
  flags: u32,
  smi: struct("", { smm: u8, pending: u8, smm_inside_nmi: u8, latched_init: u8 }),
  triple_fault: struct("", { pending: u8 }),
  reserved: pad(26),
  exception_has_payload: u8,
  exception_payload: u64,
});
/** Exceptions, interrupts, NMIs and SMIs that are pending or being delivered. */
export type VcpuEvents = StructValue<typeof KvmVcpuEvents>;

export const KvmEnableCap = struct("kvm_enable_cap", {
  cap: u32,
  flags: u32,
  args: array(u64, 4),
  pad: pad(64),
});

// ------------------------------------------------------------------ VM

export const KvmUserspaceMemoryRegion = struct("kvm_userspace_memory_region", {
  slot: u32,
  flags: u32,
  guest_phys_addr: u64,
  memory_size: u64,
  userspace_addr: u64,
});

export const KvmDirtyLog = struct("kvm_dirty_log", { slot: u32, padding1: pad(4, 4), dirty_bitmap: u64 });

export const KvmClearDirtyLog = struct("kvm_clear_dirty_log", {
  slot: u32,
  num_pages: u32,
  first_page: u64,
  dirty_bitmap: u64,
});

export const KvmIrqLevel = struct("kvm_irq_level", { irq: u32, level: u32 });

export const KvmPicState = struct("kvm_pic_state", {
  last_irr: u8,
  irr: u8,
  imr: u8,
  isr: u8,
  priority_add: u8,
  irq_base: u8,
  read_reg_select: u8,
  poll: u8,
  special_mask: u8,
  init_state: u8,
  auto_eoi: u8,
  rotate_on_auto_eoi: u8,
  special_fully_nested_mode: u8,
  init4: u8,
  elcr: u8,
  elcr_mask: u8,
});
export type PicState = StructValue<typeof KvmPicState>;

export const KvmIoapicState = struct("kvm_ioapic_state", {
  base_address: u64,
  ioregsel: u32,
  id: u32,
  irr: u32,
  pad: pad(4, 4),
  /** Redirection entries as the hardware has them: vector in bits 0-7, mask in bit 16, destination 56-63. */
  redirtbl: array(u64, 24),
});
export type IoapicState = StructValue<typeof KvmIoapicState>;

/** `chip` is a union: read and written as KvmPicState or KvmIoapicState by chip_id. */
export const KvmIrqchip = struct("kvm_irqchip", { chip_id: u32, pad: pad(4, 4), chip: pad(512, 8) });

/** `u` is a union: irqchip { irqchip, pin } or msi { address_lo, address_hi, data }. */
export const KvmIrqRoutingEntry = struct("kvm_irq_routing_entry", {
  gsi: u32,
  type: u32,
  flags: u32,
  pad: pad(4, 4),
  u: array(u32, 8),
  // The union holds 64-bit members of other architectures, which align it to 8.
  _align: pad(0, 8),
});

export const KvmIoeventfd = struct("kvm_ioeventfd", {
  datamatch: u64,
  addr: u64,
  len: u32,
  fd: i32,
  flags: u32,
  pad: pad(36),
});

export const KvmIrqfd = struct("kvm_irqfd", {
  fd: u32,
  gsi: u32,
  flags: u32,
  resamplefd: u32,
  pad: pad(16),
});

export const KvmClockData = struct("kvm_clock_data", {
  clock: u64,
  flags: u32,
  pad0: pad(4, 4),
  realtime: u64,
  host_tsc: u64,
  pad: pad(16, 4),
});
export type ClockData = StructValue<typeof KvmClockData>;

export const KvmMsi = struct("kvm_msi", {
  address_lo: u32,
  address_hi: u32,
  data: u32,
  flags: u32,
  devid: u32,
  pad: pad(12),
});

export const KvmStatsHeader = struct("kvm_stats_header", {
  flags: u32,
  name_size: u32,
  num_desc: u32,
  id_offset: u32,
  desc_offset: u32,
  data_offset: u32,
});

/** Followed by the name. */
export const KvmStatsDesc = struct("kvm_stats_desc", {
  flags: u32,
  exponent: u16,
  size: u16,
  offset: u32,
  bucket_size: u32,
});

// ------------------------------------------------------------------ kvm_run

/** The head of the page shared with KVM. `padding` names the union of the exits below. */
export const KvmRun = struct("kvm_run", {
  request_interrupt_window: u8,
  immediate_exit: u8,
  padding1: pad(6),
  exit_reason: u32,
  ready_for_interrupt_injection: u8,
  if_flag: u8,
  flags: u16,
  cr8: u64,
  apic_base: u64,
  padding: pad(256, 8),
  kvm_valid_regs: u64,
  kvm_dirty_regs: u64,
  s: pad(2048, 8),
});

/** Members of that union, by their names in C. */
export const RunUnion = {
  hw: struct("", { hardware_exit_reason: u64 }),
  fail_entry: struct("", { hardware_entry_failure_reason: u64, cpu: u32 }),
  ex: struct("", { exception: u32, error_code: u32 }),
  io: struct("", { direction: u8, size: u8, port: u16, count: u32, data_offset: u64 }),
  debug: struct("", {
    arch: struct("kvm_debug_exit_arch", { exception: u32, pad: pad(4, 4), pc: u64, dr6: u64, dr7: u64 }),
  }),
  mmio: struct("", { phys_addr: u64, data: bytes(8), len: u32, is_write: u8 }),
  hypercall: struct("", { nr: u64, args: array(u64, 6), ret: u64, longmode: u32, pad: pad(4, 4) }),
  tpr_access: struct("", { rip: u64, is_write: u32, pad: pad(4, 4) }),
  internal: struct("", { suberror: u32, ndata: u32, data: array(u64, 16) }),
  emulation_failure: struct("", {
    suberror: u32,
    ndata: u32,
    flags: u64,
    insn_size: u8,
    insn_bytes: bytes(15),
  }),
  system_event: struct("", { type: u32, ndata: u32, data: array(u64, 16) }),
  eoi: struct("", { vector: u8 }),
  msr: struct("", { error: u8, pad: pad(7), reason: u32, index: u32, data: u64 }),
  notify: struct("", { flags: u32 }),
} as const;
