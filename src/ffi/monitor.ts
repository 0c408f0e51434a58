// SPDX-License-Identifier: Apache-2.0
/**
 * Binding of libvmmhpc-remote.so (vmmhpc_monitor.h): machines in monitor processes. Their handles go where
 * those of machines in this process go.
 */
import { join } from "node:path";
import { furtherLibrary } from "./further-library.js";
import { VmmhpcStopInfo } from "./layouts.js";
import { packageRoot, type Signature } from "./library.js";
import {
  Arena,
  checked,
  checkedAsync,
  configStruct,
  type MachineConfig,
  type MachineHandle,
  machine,
} from "./machine.js";
import { chars, i32, pad, ptr, type StructValue, struct, u32, u64 } from "./struct.js";

export const HISTORY_MAX = 16 << 20;
export const MONITOR_MODULES = 16;

/** enum vmmhpc_jail_part, without the prefix VMMHPC_JAIL_. */
export const JailPart = {
  USER_NS: 1,
  ROOT: 2,
  PID_NS: 4,
  NET_NS: 8,
  IPC_NS: 16,
  UTS_NS: 32,
  CGROUP_NS: 64,
  CAPABILITIES: 128,
  NO_NEW_PRIVS: 256,
  RLIMITS: 512,
  SECCOMP: 1024,
} as const;

/** enum vmmhpc_monitor_phase, without the prefix VMMHPC_PHASE_. */
export const Phase = { STARTING: 0, ALIVE: 1, ENDED: 2, FAILED: 3 } as const;

export const VmmhpcMonitor = struct("vmmhpc_monitor", {
  size: u32,
  jail_without: u32,
  program: ptr,
  directory: ptr,
  name: ptr,
  history_bytes: u32,
  disks: u32,
  modules: ptr,
  module_count: u32,
  reserved: pad(4, 4),
  console_log: ptr,
});

export const VmmhpcStatusPage = struct("vmmhpc_status_page", {
  magic: u64,
  version: u32,
  bytes: u32,
  phase: u32,
  state: u32,
  pid: u32,
  resets: u32,
  pid_start: u64,
  started_ns: u64,
  ended_ns: u64,
  signal: i32,
  system_call: u32,
  thread: chars(16),
  name: chars(64),
  words: chars(128),
  stop: VmmhpcStopInfo,
});

export const VmmhpcConsoleHistory = struct("vmmhpc_console_history", {
  magic: u64,
  version: u32,
  offset: u32,
  capacity: u64,
  total: u64,
});

export const VmmhpcMonitorStatus = struct("vmmhpc_monitor_status", {
  size: u32,
  state: u32,
  alive: u32,
  pid: u32,
  page: VmmhpcStatusPage,
  text: chars(256),
});
export type MonitorStatus = StructValue<typeof VmmhpcMonitorStatus>;

export const VmmhpcMonitorInfo = struct("vmmhpc_monitor_info", {
  size: u32,
  protocol_major: u32,
  protocol_minor: u32,
  library_version: u32,
  state: u32,
  pid: u32,
  cpus: u32,
  image_kind: u32,
  console_attached: u32,
  clients: u32,
  memory_bytes: u64,
  started_ns: u64,
  name: chars(64),
});
export type MonitorInfo = StructValue<typeof VmmhpcMonitorInfo>;

interface MonitorApi {
  spawn(config: Uint8Array, monitor: Uint8Array, out: BigUint64Array, err: Uint8Array): number;
  connect(directory: string, out: BigUint64Array, err: Uint8Array): number;
  monitorStatus(directory: string, status: Uint8Array, err: Uint8Array): number;
  monitorInfo(vm: MachineHandle, info: Uint8Array, err: Uint8Array): number;
  ping(vm: MachineHandle, err: Uint8Array): number;
  quit(vm: MachineHandle, err: Uint8Array): number;
}

const P = "void *";

/** What the functions are bound with; a unit test compares it with the header. */
export const MONITOR_SIGNATURES: { readonly [K in keyof MonitorApi]: Signature } = {
  spawn: ["vmmhpc_spawn", "int32_t", [P, P, P, P]],
  connect: ["vmmhpc_connect", "int32_t", ["const char *", P, P]],
  monitorStatus: ["vmmhpc_monitor_status", "int32_t", ["const char *", P, P]],
  monitorInfo: ["vmmhpc_monitor_info", "int32_t", [P, P, P]],
  ping: ["vmmhpc_ping", "int32_t", [P, P]],
  quit: ["vmmhpc_quit", "int32_t", [P, P]],
};

const remote = furtherLibrary<MonitorApi>("remote", MONITOR_SIGNATURES);

/**
 * Where vmm-hpc is: `V3M_VMM_HPC` if set, else the release build in this package; with modules the one that
 * can load them, beside it.
 */
export function monitorPath(modules = false): string {
  const path = process.env.V3M_VMM_HPC || join(packageRoot(), "native/build/release/vmm-hpc");
  return modules ? `${path}-modules` : path;
}

export interface MonitorSpec {
  readonly directory: string;
  readonly name: string;
  /** `JailPart`s to go without, or-ed. */
  readonly jailWithout: number;
  readonly historyBytes: number;
  /** A file to which all output is appended. */
  readonly consoleLog?: string;
  /** How many disks will be added, at most. */
  readonly disks: number;
  /** Absolute paths of the shared objects that may be loaded. */
  readonly modules: readonly string[];
}

/** In a thread of koffi's pool. @throws VmmError, LibraryError */
export async function spawnAsync(config: MachineConfig, spec: MonitorSpec): Promise<MachineHandle> {
  const arena = new Arena();
  const native = configStruct(config, arena);
  const modules = BigUint64Array.from(spec.modules, (path) => arena.text(path));
  const monitor = VmmhpcMonitor.alloc({
    size: VmmhpcMonitor.size,
    jail_without: spec.jailWithout,
    program: arena.text(monitorPath(spec.modules.length > 0)),
    directory: arena.text(spec.directory),
    name: arena.text(spec.name),
    history_bytes: spec.historyBytes,
    disks: spec.disks,
    modules: modules.length > 0 ? arena.address(modules) : 0n,
    module_count: modules.length,
    console_log: arena.text(spec.consoleLog),
  });
  const out = new BigUint64Array(1);
  try {
    await checkedAsync((err, done) => remote.api().spawn.async(native, monitor, out, err, done));
  } finally {
    arena.release();
  }
  return (out[0] ?? 0n) as MachineHandle;
}

/** In a thread of koffi's pool. @throws VmmError, LibraryError */
export async function connectAsync(directory: string): Promise<MachineHandle> {
  const out = new BigUint64Array(1);
  await checkedAsync((err, done) => remote.api().connect.async(directory, out, err, done));
  return (out[0] ?? 0n) as MachineHandle;
}

/** What is, or was, in a directory, without talking to anybody. @throws VmmError E_IO: there was no monitor */
export function monitorStatus(directory: string): MonitorStatus {
  const status = VmmhpcMonitorStatus.alloc({ size: VmmhpcMonitorStatus.size });
  checked((err) => remote.api().monitorStatus(directory, status, err));
  return VmmhpcMonitorStatus.decode(status);
}

export function monitorInfo(vm: MachineHandle): MonitorInfo {
  const info = VmmhpcMonitorInfo.alloc({ size: VmmhpcMonitorInfo.size });
  checked((err) => remote.api().monitorInfo(vm, info, err));
  return VmmhpcMonitorInfo.decode(info);
}

export const ping = (vm: MachineHandle): Promise<void> =>
  checkedAsync((err, done) => remote.api().ping.async(vm, err, done));
export const quit = (vm: MachineHandle): Promise<void> =>
  checkedAsync((err, done) => remote.api().quit.async(vm, err, done));

export const isRemote = (vm: MachineHandle): boolean => machine.isRemote(vm) !== 0;

export const consoleDetach = (vm: MachineHandle): void => checked((err) => machine.consoleDetach(vm, err));
