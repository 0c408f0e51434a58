// SPDX-License-Identifier: Apache-2.0
/** A server for gdb, attached to a machine (docs/reference/gdb.md). */
import { ArgumentError, ClosedError, VmmError } from "../errors.js";
import { DebugFeature, type GdbHandle, gdbCreate, gdbDestroyAsync, gdbLibrary } from "../ffi/gdb.js";
import type { MachineHandle } from "../ffi/machine.js";

/** Where a gdb can connect: a TCP port on 127.0.0.1, or a UNIX socket. */
export interface GdbOptions {
  /** 0, the default: any that is free. Every user of this host can connect. */
  readonly port?: number;
  /** A socket that only this user can connect to; removed at the end. Instead of `port`. */
  readonly path?: string;
  /** Keep the machine where it is (before its start: at its first instruction) until a gdb lets it go. */
  readonly wait?: boolean;
}

/**
 * What `--gdb` and the like mean: a number is a TCP port, anything else a socket's path.
 * @throws ArgumentError
 */
export function gdbEndpoint(text: string): { readonly port: number } | { readonly path: string } {
  if (/^\d+$/.test(text)) {
    const port = Number(text);
    if (port > 65535) {
      throw new ArgumentError(`${text} is not a TCP port`, { hint: "0 to 65535, or the path of a socket" });
    }
    return { port };
  }
  checkPath(text);
  return { path: text };
}

/** struct sockaddr_un has 108 bytes for it and the NUL. */
function checkPath(path: string): void {
  if (path === "" || Buffer.byteLength(path) > 107 || path.includes("\0")) {
    throw new ArgumentError(`${JSON.stringify(path)} is not the path of a socket`, {
      hint: "a path of 1 to 107 bytes, or a TCP port",
    });
  }
}

export class GdbServer implements AsyncDisposable {
  /** The TCP port, undefined for a UNIX socket. */
  readonly port: number | undefined;
  readonly path: string | undefined;
  /**
   * Whether the host's CPU has breakpoints and watchpoints for guests. Where not (QEMU's emulation of AMD-V),
   * `hbreak` works like `break`, `watch` by single steps, and `rwatch` and `awatch` do not.
   */
  readonly hardware: boolean;
  readonly #handle: GdbHandle;
  #closed: Promise<void> | undefined;

  private constructor(handle: GdbHandle, path: string | undefined) {
    const api = gdbLibrary();
    this.#handle = handle;
    this.path = path;
    this.port = path === undefined ? api.port(handle) : undefined;
    this.hardware = (api.features(handle) & DebugFeature.HARDWARE) !== 0;
  }

  /**
   * Listen. Use `Machine.gdb()`, which also disposes of the server before the machine.
   * @throws ArgumentError, VmmError, LibraryError
   */
  static listen(machine: MachineHandle, options: GdbOptions = {}): GdbServer {
    const { path, port = 0, wait = false } = options;
    if (path !== undefined && options.port !== undefined) {
      throw new ArgumentError("a gdb server has a port or a path, not both");
    }
    if (!Number.isInteger(port) || port < 0 || port > 65535) {
      throw new ArgumentError(`${port} is not a TCP port`, { hint: "0 to 65535" });
    }
    if (path !== undefined) checkPath(path);
    try {
      return new GdbServer(gdbCreate(machine, { port, path, wait }), path);
    } catch (error) {
      if (error instanceof VmmError && error.code === "E_IO") {
        const hint = "another program has the port or the socket: choose another, or end that program";
        throw new VmmError(error.code, error.message, { hint, errno: error.errno, value: error.value });
      }
      throw error;
    }
  }

  /** What to type in gdb. */
  get command(): string {
    return `target remote ${this.path ?? `127.0.0.1:${this.port}`}`;
  }

  /** Whether a gdb is connected. */
  get attached(): boolean {
    if (this.#closed !== undefined) {
      throw new ClosedError("the gdb server was disposed");
    }
    return gdbLibrary().attached(this.#handle) !== 0;
  }

  /** Hang up, take breakpoints away, let the guest go on. Idempotent. */
  dispose(): Promise<void> {
    this.#closed ??= gdbDestroyAsync(this.#handle);
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
