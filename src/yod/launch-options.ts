// SPDX-License-Identifier: Apache-2.0
/** What an application is launched with, and the defaults that make it look like a local command. */
import { existsSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, isAbsolute, resolve } from "node:path";
import { ArgumentError, LibraryError } from "../errors.js";
import type { ShmOptions } from "../vmm/channel.js";
import type { GdbOptions } from "../vmm/gdb.js";
import type { MachineOptions, MemoryBacking } from "../vmm/options.js";
import type { Application } from "./application.js";
import { buildLaunchModule, type Environment } from "./launch-module.js";
import { lightweightKernelPath } from "./library.js";
import type { Root, ServerConfig } from "./server.js";

export interface LaunchOptions {
  /** Path of the program (a name without a slash is looked for in PATH), or what `readApplication` gave. */
  readonly app: string | Application;
  /** Arguments after the program's name. */
  readonly args?: readonly string[];
  /** argv[0]. Default: `app` as it was given. */
  readonly argv0?: string;
  /** Default: this process's. */
  readonly env?: Environment;
  /** Absolute. Default: this process's. Relative paths fail where it is not beneath a root. */
  readonly cwd?: string;
  /**
   * What the application sees of the host's files. Default: the current directory and the program's own
   * directory, read-only.
   */
  readonly roots?: readonly Root[];
  /** Descriptors of standard input, output and error, which stay the caller's. Default: 0, 1, 2. */
  readonly stdio?: readonly [number, number, number];
  readonly cpus?: number;
  /** Bytes. Default 256 MiB. */
  readonly memory?: number | bigint;
  /** Default `thp`. */
  readonly backing?: MemoryBacking;
  readonly prefault?: boolean;
  readonly numaNode?: number;
  /** Host CPU of each vCPU's thread: vCPU i takes element i modulo the length. */
  readonly pin?: readonly number[];
  /** Its place in a channel of shared memory, which it finds as /dev/v3m-shm (docs/reference/shm.md). */
  readonly shm?: ShmOptions;
  /** SIGTERM after this long, and the end of the machine `graceMs` after that. */
  readonly timeoutMs?: number;
  /** Default 5000. */
  readonly graceMs?: number;
  /** Bytes of the main thread's stack. Default: the kernel's choice. */
  readonly stackBytes?: number | bigint;
  /** Count every system call by number, not only those that are not provided. */
  readonly countCalls?: boolean;
  /** What getpid() says. Default: this process's number. */
  readonly pid?: number;
  /** What uname() says. Default: the host's name. */
  readonly nodename?: string;
  /** A descriptor for the kernel's own messages. Default: the last are kept, for the case that it fails. */
  readonly console?: number;
  /** Instead of the lightweight kernel of this package. */
  readonly kernel?: string;
  /** Let a gdb connect to its machine: see `Launched.gdb`. */
  readonly gdb?: GdbOptions;
  /** Instead of /dev/kvm. */
  readonly kvmPath?: string;
}

export const DEFAULT_LAUNCH_MEMORY = 256n << 20n;
export const DEFAULT_GRACE_MS = 5000;

/** The current directory, and where the program is: by its name, and in truth. */
export function defaultRoots(cwd: string, app: Pick<Application, "path" | "realPath">): Root[] {
  const paths = new Set([cwd, dirname(resolve(cwd, app.path)), dirname(app.realPath)]);
  return [...paths].map((path) => ({ path }));
}

/** @throws ArgumentError for a root that is no absolute path of a directory. */
function checkRoots(roots: readonly Root[]): readonly Root[] {
  for (const { path } of roots) {
    if (!isAbsolute(path)) {
      throw new ArgumentError(`the root ${path} is not an absolute path`);
    }
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new ArgumentError(`the root ${path} is not a directory`, { hint: "give directories as roots" });
    }
  }
  return roots;
}

function kernelPath(given: string | undefined): string {
  const path = given ?? lightweightKernelPath();
  if (!existsSync(path)) {
    throw new LibraryError("E_NO_LIBRARY", `the lightweight kernel is not at ${path}`, {
      hint: given === undefined && !process.env.V3M_LWK ? "make build" : "correct the path",
    });
  }
  return path;
}

/** Everything that the machine and the server need. */
export interface LaunchPlan {
  readonly machine: MachineOptions;
  readonly server: ServerConfig;
}

/** @throws ArgumentError, LibraryError: nothing was made yet. */
export function planLaunch(options: LaunchOptions, app: Application): LaunchPlan {
  const cwd = options.cwd ?? process.cwd();
  if (!isAbsolute(cwd)) {
    throw new ArgumentError(`the working directory ${cwd} is not an absolute path`);
  }
  const name = options.argv0 ?? (typeof options.app === "string" ? options.app : app.path);
  const argv = [name, ...(options.args ?? [])];
  const memory = BigInt(options.memory ?? DEFAULT_LAUNCH_MEMORY);
  const cpus = options.cpus ?? 1;
  const pid = options.pid ?? process.pid;
  const nodename = options.nodename ?? hostname();
  const initrd = buildLaunchModule({
    file: app.file,
    path: app.path,
    argv,
    env: options.env ?? process.env,
    pid,
    nodename,
    countCalls: options.countCalls ?? false,
    ...(options.stackBytes === undefined ? {} : { stackBytes: options.stackBytes }),
  });
  return {
    machine: {
      kernel: kernelPath(options.kernel),
      kind: "linux",
      unpack: false,
      initrd,
      cpus,
      memory: [
        {
          bytes: memory,
          backing: options.backing ?? "thp",
          prefault: options.prefault ?? false,
          ...(options.numaNode === undefined ? {} : { numaNode: options.numaNode }),
        },
      ],
      onReset: "stop",
      ...(options.pin === undefined ? {} : { pin: options.pin }),
      ...(options.shm === undefined ? {} : { shm: [options.shm] }),
      ...(options.kvmPath === undefined ? {} : { kvmPath: options.kvmPath }),
    },
    server: {
      roots: checkRoots(options.roots ?? defaultRoots(cwd, app)),
      cwd,
      exe: app.realPath,
      argv,
      fds: options.stdio ?? [0, 1, 2],
      cpus,
      memoryBytes: memory,
      hostname: nodename,
      pid,
    },
  };
}
