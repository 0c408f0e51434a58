// SPDX-License-Identifier: Apache-2.0
/**
 * Structures and constants of vmmhpc_yod.h and of native/yod/yod.h, field for field, as far as this side
 * uses them. test/unit/yod-layout.test.ts compares them with the compiler's.
 */
import { array, bytes, chars, i32, pad, ptr, type StructValue, struct, u32, u64 } from "../ffi/struct.js";

export const YOD_LAUNCH_MAGIC = 0x48_4e55_4c4b_574cn;
export const YOD_LAUNCH_VERSION = 1;
export const YOD_LAUNCH_REPORT_CALLS = 1;

export const YOD_PORT = 0xe00;
export const YOD_PORT_BYTES = 16;
export const YOD_REG_MAGIC = 0;
export const YOD_REG_QUEUE = 4;
export const YOD_REG_DOORBELL = 8;
export const YOD_REG_TRACE = 12;
export const YOD_MAGIC = 0x3144_4f59;
export const YOD_DOORBELL_REPORT = 0xffff_ffff;
export const YOD_TRACE_ENTRY = 1;
export const YOD_TRACE_APP = 2;
export const YOD_SLOTS = 64;
export const YOD_SLOT_DONE = 2;

/** enum yod_end. */
export const End = { NONE: 0, EXIT: 1, SIGNAL: 2, FAULT: 3, LAUNCH: 4, PANIC: 5 } as const;

export const YOD_REPORT_CALLS = 512;
export const YOD_REPORT_BACKTRACE = 64;
/** `vector` of a report without an exception. */
export const NO_VECTOR = 0xffff_ffff;

export const YodLaunch = struct("yod_launch", {
  magic: u64,
  version: u32,
  bytes_header: u32,
  bytes: u64,
  app_offset: u64,
  app_bytes: u64,
  strings_offset: u64,
  strings_bytes: u64,
  argc: u32,
  envc: u32,
  stack_bytes: u64,
  flags: u32,
  pid: u32,
  uid: u32,
  euid: u32,
  gid: u32,
  egid: u32,
  seed: bytes(64),
  unix_ns: u64,
  nodename: chars(64),
});

export const YodSlot = struct("yod_slot", {
  state: u32,
  call: u32,
  result: u64,
  args: array(u64, 6),
  extent: array(u64, 6),
});

export const YodReport = struct("yod_report", {
  end: u32,
  status: i32,
  signal: u32,
  vector: u32,
  error_code: u64,
  fault_address: u64,
  registers: array(u64, 18),
  fs_base: u64,
  tid: u32,
  cpu: u32,
  code: bytes(16),
  code_bytes: u32,
  backtrace_exact: u32,
  backtrace_count: u32,
  threads: u32,
  backtrace: array(u64, YOD_REPORT_BACKTRACE),
  load_bias: u64,
  ticks: u64,
  switches: u64,
  shipped: u64,
  tsc_entry: u64,
  tsc_app: u64,
  calls: array(u32, YOD_REPORT_CALLS),
  not_provided: array(u32, YOD_REPORT_CALLS),
  not_provided_other: u32,
  reserved: pad(4, 4),
  text: chars(256),
});
export type RawReport = StructValue<typeof YodReport>;

export const YodQueue = struct("yod_queue", {
  version: u32,
  slots: u32,
  signals: u64,
  slot: array(YodSlot, YOD_SLOTS),
  report: YodReport,
});

export const VmmhpcYodRoot = struct("vmmhpc_yod_root", {
  path: ptr,
  writable: u32,
  reserved: pad(4, 4),
});

export const VmmhpcYodConfig = struct("vmmhpc_yod_config", {
  size: u32,
  root_count: u32,
  roots: ptr,
  cwd: ptr,
  exe: ptr,
  cmdline: ptr,
  cmdline_bytes: u64,
  fds: array(i32, 3),
  cpus: u32,
  memory_bytes: u64,
  hostname: ptr,
  pid: u32,
  reserved: pad(4, 4),
});

export const VmmhpcYodStats = struct("vmmhpc_yod_stats", {
  size: u32,
  reserved: pad(4, 4),
  entry_ns: u64,
  app_ns: u64,
  app_exits: u64,
  served: u64,
  waited: u64,
  bytes_read: u64,
  bytes_written: u64,
});
export type RawYodStats = StructValue<typeof VmmhpcYodStats>;
