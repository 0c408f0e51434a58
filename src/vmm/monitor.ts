// SPDX-License-Identifier: Apache-2.0
/**
 * Machines in processes of their own: each is run by a monitor, `vmm-hpc`, in a jail, and goes on when the
 * process that started it ends (docs/reference/monitor.md).
 *
 *     await using machine = await Machine.spawn({ kernel: "vmlinuz" }, { directory: "/run/user/1000/v3m/a" });
 *     machine.start();                        // from now on it is on its own: dispose() only lets go of it
 *     await using again = await Machine.connect("/run/user/1000/v3m/a");     // here or in another process
 */
import { readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { ArgumentError, V3mError } from "../errors.js";
import * as native from "../ffi/monitor.js";
import { whole } from "./options.js";
import { decodeStopInfo, type MachineState, type StopInfo, stateName } from "./stop-info.js";

/** A part of the jail, in the words of the command line (docs/reference/jail.md). */
export type JailPart =
  | "user-ns"
  | "root"
  | "pid-ns"
  | "net-ns"
  | "ipc-ns"
  | "uts-ns"
  | "cgroup-ns"
  | "capabilities"
  | "no-new-privs"
  | "rlimits"
  | "seccomp";

export const JAIL_PARTS = Object.fromEntries(
  Object.entries(native.JailPart).map(([name, bit]) => [name.toLowerCase().replaceAll("_", "-"), bit]),
) as Readonly<Record<JailPart, number>>;

export interface MonitorOptions {
  /** Where its socket, status and console are: an existing directory, of this machine alone. */
  readonly directory: string;
  /** For people, at most 63 bytes. Default: the directory's name. */
  readonly name?: string;
  /** Parts of the jail to go without. Default: none; where one cannot be set up the machine is not made. */
  readonly jailWithout?: readonly JailPart[];
  /**
   * Shared objects that `loadModule` may be asked for: in the jail no others can be opened. They are opened before
   * it is entered, by a monitor that is larger than the usual one.
   */
  readonly modules?: readonly string[];
  /** Bytes of console output that are kept for those who come later, at most 16 MiB. Default 16 KiB. */
  readonly history?: number;
  /** A file to which all output is appended as well. */
  readonly consoleLog?: string;
}

/** What a monitor says of itself. */
export interface MonitorInfo {
  readonly name: string;
  readonly pid: number;
  /** Of the control protocol. */
  readonly protocol: { readonly major: number; readonly minor: number };
  /** Version of the libvmmhpc in it. */
  readonly library: { readonly major: number; readonly minor: number };
  readonly state: MachineState;
  readonly cpus: number;
  readonly memoryBytes: bigint;
  readonly consoleAttached: boolean;
  /** Connections to it, this one included. */
  readonly clients: number;
  readonly started: Date;
}

/** What became of a monitor, readable at any time and by anyone who may read its directory. */
export interface MonitorStatus {
  readonly name: string;
  readonly state: MachineState;
  readonly alive: boolean;
  readonly pid: number;
  readonly resets: number;
  readonly started: Date;
  /** Where it ended in order, or noticed its own fault. */
  readonly ended: Date | undefined;
  /** How it ended, in one sentence; empty while it lives. */
  readonly text: string;
  /** A fault of the monitor itself. */
  readonly fault:
    | { readonly signal: number; readonly systemCall: number; readonly thread: string }
    | undefined;
  /** How the machine ended, where it did. */
  readonly stop: StopInfo | undefined;
}

/** @throws ArgumentError */
export function monitorSpec(options: MonitorOptions, disks = 0): native.MonitorSpec {
  const { directory, name = basename(directory) } = options;
  if (directory === "" || directory.includes("\0") || name.includes("\0") || Buffer.byteLength(name) > 63) {
    throw new ArgumentError("a monitor needs a directory, and a name of at most 63 bytes");
  }
  let jailWithout = 0;
  for (const part of options.jailWithout ?? []) {
    const bit = JAIL_PARTS[part];
    if (bit === undefined) {
      throw new ArgumentError(`the jail has no part ${JSON.stringify(part)}`, {
        hint: `one of ${Object.keys(JAIL_PARTS).join(", ")}`,
      });
    }
    jailWithout |= bit;
  }
  const modules = (options.modules ?? []).map((path) => resolve(path));
  const history = Number(whole(options.history ?? 0, "bytes of console history", 0, native.HISTORY_MAX));
  const log = options.consoleLog === undefined ? {} : { consoleLog: resolve(options.consoleLog) };
  return { directory, name, jailWithout, historyBytes: history, disks, modules, ...log };
}

const dateOf = (ns: bigint) => new Date(Number(ns / 1_000_000n));

/** @throws VmmError: E_IO where there is, or was, no monitor in that directory */
export function monitorStatus(directory: string): MonitorStatus {
  const status = native.monitorStatus(directory);
  const { page } = status;
  const state = stateName(status.state);
  const failed = page.phase === native.Phase.FAILED;
  return {
    name: page.name,
    state,
    alive: status.alive !== 0,
    pid: status.pid,
    resets: page.resets,
    started: dateOf(page.started_ns),
    ended: page.ended_ns === 0n ? undefined : dateOf(page.ended_ns),
    text: status.text,
    fault: failed ? { signal: page.signal, systemCall: page.system_call, thread: page.thread } : undefined,
    stop: page.stop.reason === 0 ? undefined : decodeStopInfo(page.stop),
  };
}

export function decodeInfo(info: native.MonitorInfo): MonitorInfo {
  const version = info.library_version;
  return {
    name: info.name,
    pid: info.pid,
    protocol: { major: info.protocol_major, minor: info.protocol_minor },
    library: { major: version >>> 16, minor: version & 0xffff },
    state: stateName(info.state),
    cpus: info.cpus,
    memoryBytes: info.memory_bytes,
    consoleAttached: info.console_attached !== 0,
    clients: info.clients,
    started: dateOf(info.started_ns),
  };
}

/**
 * What the guest wrote last, of what is kept; also after the monitor's end.
 * @throws V3mError E_IO, E_BAD_IMAGE
 */
export function readConsoleHistory(directory: string): Buffer {
  const path = join(directory, "console");
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch (cause) {
    const errno = (cause as NodeJS.ErrnoException).code;
    throw new V3mError("E_IO", `cannot read ${path}: ${errno}`, { errno, cause });
  }
  const head =
    file.length < native.VmmhpcConsoleHistory.size ? undefined : native.VmmhpcConsoleHistory.decode(file);
  const ring = file.subarray(head?.offset ?? 0);
  if (
    head === undefined ||
    head.version !== 1 ||
    ring.length === 0 ||
    head.capacity !== BigInt(ring.length)
  ) {
    throw new V3mError("E_BAD_IMAGE", `${path} is no console history`);
  }
  if (head.total <= head.capacity) {
    return ring.subarray(0, Number(head.total));
  }
  const at = Number(head.total % head.capacity);
  return Buffer.concat([ring.subarray(at), ring.subarray(0, at)]);
}
