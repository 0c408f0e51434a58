// SPDX-License-Identifier: Apache-2.0
/** Pipes: Node has none of its own that another part of the process could write to. */
import { closeSync } from "node:fs";
import koffi from "koffi";
import { errnoName, V3mError } from "../errors.js";
import type { Bound } from "../ffi/library.js";

const O_CLOEXEC = 0o2000000;

let pipe2: Bound<(fds: Int32Array, flags: number) => number> | undefined;

/** The two ends of a pipe, as descriptors. */
export class Pipe implements Disposable {
  readonly readEnd: number;
  readonly writeEnd: number;
  readonly #open: Set<number>;

  /** @throws V3mError E_SYSCALL */
  constructor() {
    pipe2 ??= koffi.load(null).func("pipe2", "int", ["void *", "int"]);
    const fds = new Int32Array(2);
    if (pipe2(fds, O_CLOEXEC) !== 0) {
      const errno = errnoName(koffi.errno());
      throw new V3mError("E_SYSCALL", `cannot make a pipe: ${errno}`, { errno, hint: "ulimit -n" });
    }
    this.readEnd = fds[0] ?? -1;
    this.writeEnd = fds[1] ?? -1;
    this.#open = new Set([this.readEnd, this.writeEnd]);
  }

  /** Somebody else closes this end from now on. */
  release(end: number): number {
    this.#open.delete(end);
    return end;
  }

  close(end: number): void {
    if (this.#open.delete(end)) closeSync(end);
  }

  [Symbol.dispose](): void {
    for (const end of this.#open) this.close(end);
  }
}
