// SPDX-License-Identifier: Apache-2.0
/** Structures and constants of vmmhpc.h, field for field. test/unit/ffi-layout.test.ts compares them. */
import { array, bytes, chars, i32, pad, ptr, type StructValue, struct, u32, u64 } from "./struct.js";

export const VERSION_MAJOR = 0;
export const VERSION_MINOR = 1;

/** enum vmmhpc_status, without the prefix VMMHPC_. */
export const Status = {
  OK: 0,
  E_INVALID: -1,
  E_NO_MEMORY: -2,
  E_NO_KVM: -3,
  E_PERMISSION: -4,
  E_UNSUPPORTED: -5,
  E_SYSCALL: -6,
  E_RANGE: -7,
  E_OVERLAP: -8,
  E_BAD_IMAGE: -9,
  E_TRUNCATED: -10,
  E_NO_ROOM: -11,
  E_STATE: -12,
  E_LIMIT: -13,
  E_IO: -14,
  E_TIMEOUT: -15,
} as const;

/** enum vmmhpc_backing: what guest RAM is made of. */
export const Backing = { ANON: 0, THP: 1, MEMFD: 2, HUGE_2M: 3, HUGE_1G: 4 } as const;
export type Backing = (typeof Backing)[keyof typeof Backing];

export const MEMORY_PREFAULT = 1;
export const MEMORY_MAX = 16;
export const MEMORY_MIN = 1 << 20;
export const POWER_BUTTON_GSI = 7;
export const HOLE_START = 0xc000_0000n;
export const HOLE_END = 0x1_0000_0000n;

/** VMMHPC_FLAG_*: of struct vmmhpc_config. */
export const Flag = {
  EXTERNAL_VCPUS: 1,
  STOP_ON_RESET: 2,
  NO_UART: 4,
  HIDE_XSAVE: 8,
  BARE: 16,
  POWER_BUTTON: 32,
} as const;

/** enum vmmhpc_image_kind. */
export const ImageKind = {
  AUTO: 0,
  BZIMAGE: 1,
  ELF_LINUX: 2,
  ELF_PVH: 3,
  MULTIBOOT: 4,
  FLAT16: 5,
  FLAT64: 6,
} as const;
export type ImageKind = (typeof ImageKind)[keyof typeof ImageKind];

/** enum vmmhpc_state. */
export const State = { CREATED: 0, RUNNING: 1, PAUSED: 2, STOPPED: 3, CRASHED: 4 } as const;
export type State = (typeof State)[keyof typeof State];

/** enum vmmhpc_stop_reason, without the prefix VMMHPC_STOP_. */
export const StopReason = {
  NONE: 0,
  POWEROFF: 1,
  REQUEST: 2,
  RESET: 3,
  TRIPLE_FAULT: 4,
  INTERNAL_ERROR: 5,
  ENTRY_FAILED: 6,
  UNKNOWN_EXIT: 7,
  RUN_FAILED: 8,
  RESET_FAILED: 9,
  GUEST_CRASH: 10,
  MONITOR_ENDED: 11,
} as const;
export type StopReason = (typeof StopReason)[keyof typeof StopReason];

/** enum vmmhpc_event_type. */
export const EventType = { STATE: 1, RESET: 2, MODULE_FAILED: 3 } as const;

/** enum vmmhpc_space. */
export const Space = { PIO: 0, MMIO: 1 } as const;
export type Space = (typeof Space)[keyof typeof Space];

export const ACCESS_READ = 0;
export const ACCESS_WRITE = 1;

export const STATS_MAGIC = 0x5354_4148_504d_4d56n;
export const STATS_EXITS = 48;
export const STATS_BUCKETS = 32;

export const VmmhpcError = struct("vmmhpc_error", {
  size: u32,
  code: i32,
  sys_errno: i32,
  reserved: pad(4, 4),
  value: u64,
  text: chars(232),
});

export const VmmhpcMemory = struct("vmmhpc_memory", {
  size: u32,
  backing: u32,
  bytes: u64,
  flags: u32,
  numa_node: i32,
});

export const VmmhpcConfig = struct("vmmhpc_config", {
  size: u32,
  cpus: u32,
  cores_per_socket: u32,
  threads_per_core: u32,
  flags: u32,
  memory_count: u32,
  memory: ptr,
  pin: ptr,
  pin_count: u32,
  reserved: pad(4, 4),
  kvm_path: ptr,
});

export const VmmhpcBoot = struct("vmmhpc_boot", {
  size: u32,
  kind: u32,
  kernel_path: ptr,
  kernel: ptr,
  kernel_bytes: u64,
  initrd_path: ptr,
  initrd: ptr,
  initrd_bytes: u64,
  cmdline: ptr,
  load_address: u64,
});

export const VmmhpcStopInfo = struct("vmmhpc_stop_info", {
  size: u32,
  state: u32,
  reason: u32,
  vcpu: u32,
  exit_reason: u32,
  suberror: u32,
  sys_errno: i32,
  has_registers: u32,
  hardware_reason: u64,
  rip: u64,
  rflags: u64,
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
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  efer: u64,
  cs_base: u64,
  cs_selector: u32,
  code_bytes: u32,
  code: bytes(32),
  text: chars(200),
});
export type StopInfo = StructValue<typeof VmmhpcStopInfo>;

export const VmmhpcEvent = struct("vmmhpc_event", {
  type: u32,
  reserved: pad(4, 4),
  arg: u64,
  time_ns: u64,
});
export type Event = StructValue<typeof VmmhpcEvent>;

export const VmmhpcSlot = struct("vmmhpc_slot", {
  gpa: u64,
  bytes: u64,
  host: u64,
  fd: i32,
  reserved: pad(4, 4),
  fd_offset: u64,
});
export type Slot = StructValue<typeof VmmhpcSlot>;

export const VmmhpcExitStats = struct("vmmhpc_exit_stats", {
  count: u64,
  total_ns: u64,
  histogram: array(u64, STATS_BUCKETS),
});

export const VmmhpcVcpuStats = struct("vmmhpc_vcpu_stats", {
  runs: u64,
  run_ns: u64,
  outside_ns: u64,
  kicks: u64,
  unclaimed_pio: u64,
  unclaimed_mmio: u64,
  reserved: pad(80, 8),
  exits: array(VmmhpcExitStats, STATS_EXITS),
});
export type VcpuStats = StructValue<typeof VmmhpcVcpuStats>;

export const VmmhpcStatsPage = struct("vmmhpc_stats_page", {
  magic: u64,
  version: u32,
  vcpus: u32,
  vcpu_offset: u32,
  vcpu_stride: u32,
  exits: u32,
  buckets: u32,
  start_ns: u64,
  first_run_ns: u64,
  resets: u64,
  console_out: u64,
  console_dropped: u64,
  console_in: u64,
  reserved: pad(32, 8),
});
export type StatsPage = StructValue<typeof VmmhpcStatsPage>;

export const VmmhpcKvmStat = struct("vmmhpc_kvm_stat", { name: chars(48), value: u64 });

export const VmmhpcHost = struct("vmmhpc_host", {
  size: u32,
  kvm_status: i32,
  api_version: i32,
  max_vcpus: u32,
  recommended_vcpus: u32,
  max_slots: u32,
  has_vmx: u32,
  has_svm: u32,
  tcg: u32,
  xsave_broken: u32,
  tsc_khz: u64,
  vendor: chars(16),
  hypervisor: chars(16),
});
export type Host = StructValue<typeof VmmhpcHost>;
