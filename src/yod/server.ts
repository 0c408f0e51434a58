// SPDX-License-Identifier: Apache-2.0
/** The server of one application's file calls, attached to its machine. */
import koffi from "koffi";
import { ClosedError } from "../errors.js";
import { VmmhpcError } from "../ffi/layouts.js";
import { type MachineHandle, vmmError } from "../ffi/machine.js";
import { viewOf } from "../ffi/struct.js";
import { YodError } from "./errors.js";
import {
  type RawReport,
  type RawYodStats,
  VmmhpcYodConfig,
  VmmhpcYodRoot,
  VmmhpcYodStats,
  YodReport,
} from "./layouts.js";
import { type ServerHandle, yodLibrary } from "./library.js";

/** A directory that the application sees, under the same name as on the host. */
export interface Root {
  /** Absolute. */
  readonly path: string;
  /** Default: read-only. */
  readonly writable?: boolean;
}

/** What the server is told of the application and its machine. */
export interface ServerConfig {
  readonly roots: readonly Root[];
  /** Absolute. */
  readonly cwd: string;
  /** Absolute path of the executable. */
  readonly exe: string;
  readonly argv: readonly string[];
  /** Standard input, output and error; duplicated. */
  readonly fds: readonly [number, number, number];
  readonly cpus: number;
  readonly memoryBytes: bigint;
  readonly hostname: string;
  readonly pid: number;
}

/** VMMHPC_E_STATE. */
const E_STATE = -12;

function yodError(status: number, err?: Uint8Array): YodError {
  const { code, message, hint, errno, value } = vmmError(status, err);
  // The general hints speak of kernels and machines; here it is a directory or a descriptor.
  const own = code === "E_IO" || code === "E_PERMISSION" ? "check the directories given by --root" : hint;
  return new YodError(code, message, { hint: own, errno, value });
}

function newError(): Uint8Array {
  return VmmhpcError.alloc({ size: VmmhpcError.size });
}

export class YodServer implements AsyncDisposable {
  readonly #handle: ServerHandle;
  #closed: Promise<void> | undefined;

  private constructor(handle: ServerHandle) {
    this.#handle = handle;
  }

  /**
   * Attach to a machine that was not started. It must be disposed of before its machine.
   * @throws YodError, LibraryError
   */
  static attach(machine: MachineHandle, config: ServerConfig): YodServer {
    const api = yodLibrary();
    const kept: ArrayBufferView[] = []; // addresses do not count as references
    const address = (memory: ArrayBufferView): bigint => {
      kept.push(memory);
      return koffi.address(memory);
    };
    const text = (value: string) => address(Buffer.from(`${value}\0`));
    const roots = new Uint8Array(VmmhpcYodRoot.size * Math.max(1, config.roots.length));
    config.roots.forEach((root, i) => {
      VmmhpcYodRoot.write(viewOf(roots), i * VmmhpcYodRoot.size, {
        path: text(root.path),
        writable: root.writable === true ? 1 : 0,
      });
    });
    const cmdline = Buffer.from(config.argv.map((word) => `${word}\0`).join(""));
    const native = VmmhpcYodConfig.alloc({
      size: VmmhpcYodConfig.size,
      root_count: config.roots.length,
      roots: address(roots),
      cwd: text(config.cwd),
      exe: text(config.exe),
      cmdline: cmdline.length === 0 ? 0n : address(cmdline),
      cmdline_bytes: BigInt(cmdline.length),
      fds: [...config.fds],
      cpus: config.cpus,
      memory_bytes: config.memoryBytes,
      hostname: text(config.hostname),
      pid: config.pid,
    });
    const out = new BigUint64Array(1);
    const err = newError();
    const status = api.create(machine, native, out, err);
    kept.length = 0; // here: reachable until the call has come back
    if (status < 0) {
      throw yodError(status, err);
    }
    return new YodServer((out[0] ?? 0n) as ServerHandle);
  }

  /** Send a signal. @returns false where the guest is not ready for signals yet */
  signal(signal: number): boolean {
    const err = newError();
    const status = yodLibrary().signal(this.#open(), signal, err);
    if (status < 0 && status !== E_STATE) {
      throw yodError(status, err);
    }
    return status >= 0;
  }

  /** The report that the guest left, or undefined where it left none. */
  report(): RawReport | undefined {
    const err = newError();
    const report = YodReport.alloc();
    const status = yodLibrary().getReport(this.#open(), report, err);
    if (status === E_STATE) {
      return undefined;
    }
    if (status < 0) {
      throw yodError(status, err);
    }
    return YodReport.decode(report);
  }

  stats(): RawYodStats {
    const stats = VmmhpcYodStats.alloc();
    viewOf(stats).setUint32(0, VmmhpcYodStats.size, true);
    const status = yodLibrary().getStats(this.#open(), stats);
    if (status < 0) {
      throw yodError(status);
    }
    return VmmhpcYodStats.decode(stats);
  }

  /** Where the guest has its queue: to be kept with a snapshot of the machine. Undefined before the guest said so. */
  get queue(): bigint | undefined {
    const gpa = BigInt(yodLibrary().queue(this.#open()));
    return gpa === 0xffff_ffff_ffff_ffffn ? undefined : gpa;
  }

  /**
   * Serve a machine that was restored from a snapshot, before it is started. Calls that were under way are made again; of
   * the application's files only standard streams are open.
   * @throws YodError
   */
  adopt(queue: bigint): void {
    const err = newError();
    const status = yodLibrary().adopt(this.#open(), queue, err);
    if (status < 0) {
      throw yodError(status, err);
    }
  }

  /** Detach from the machine and give everything back. Idempotent. */
  dispose(): Promise<void> {
    this.#closed ??= new Promise((resolve, reject) => {
      // In a thread of koffi's pool: it waits for calls that are being served.
      yodLibrary().destroy.async(this.#handle, (error) => (error === null ? resolve() : reject(error)));
    });
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #open(): ServerHandle {
    if (this.#closed !== undefined) {
      throw new ClosedError("the server of this application was disposed");
    }
    return this.#handle;
  }
}
