// SPDX-License-Identifier: Apache-2.0
/**
 * A descriptor with an owner, or with several: other threads may hold the same one, and the last to close
 * closes it. A finalizer closes what was forgotten.
 */
import { ClosedError } from "../errors.js";
import { check, type NativeBuffer, raw } from "../ffi/raw.js";

/** Plain data by which another thread attaches to a descriptor. */
export interface SharedHandle {
  readonly fd: number;
  readonly label: string;
  readonly holders: SharedArrayBuffer;
}

interface Held {
  readonly fd: number;
  readonly holders: Int32Array;
}

function release({ fd, holders }: Held): void {
  if (Atomics.sub(holders, 0, 1) === 1) {
    raw.close(fd);
  }
}

const forgotten = new FinalizationRegistry<Held>(release);

export class Handle {
  readonly label: string;
  readonly #held: Held;
  #closed = false;

  private constructor(held: Held, label: string) {
    this.#held = held;
    this.label = label;
    forgotten.register(this, held, this);
  }

  /** Take over a descriptor. */
  static own(fd: number, label: string): Handle {
    const holders = new Int32Array(new SharedArrayBuffer(4));
    holders[0] = 1;
    return new Handle({ fd, holders }, label);
  }

  /** @throws ClosedError where the descriptor is closed already. */
  static attach(shared: SharedHandle): Handle {
    const holders = new Int32Array(shared.holders);
    for (;;) {
      const now = Atomics.load(holders, 0);
      if (now <= 0) {
        throw new ClosedError(`${shared.label} was closed by the thread that shared it`);
      }
      if (Atomics.compareExchange(holders, 0, now, now + 1) === now) {
        return new Handle({ fd: shared.fd, holders }, shared.label);
      }
    }
  }

  share(): SharedHandle {
    return { fd: this.fd, label: this.label, holders: this.#held.holders.buffer as SharedArrayBuffer };
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The descriptor. @throws ClosedError after `close`. */
  get fd(): number {
    if (this.#closed) {
      throw new ClosedError(`${this.label} is closed`);
    }
    return this.#held.fd;
  }

  /** An ioctl with a pointer argument. @throws KvmError */
  ioctl(request: number, what: string, arg: NativeBuffer): number {
    return check(raw.ioctl(this.fd, request, arg), what);
  }

  /** An ioctl with a number as its argument. @throws KvmError */
  ioctlValue(request: number, what: string, value: number | bigint = 0): number {
    return check(raw.ioctlValue(this.fd, request, value), what, BigInt(value));
  }

  close(): void {
    if (!this.#closed) {
      this.#closed = true;
      forgotten.unregister(this);
      release(this.#held);
    }
  }
}
