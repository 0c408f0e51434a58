// SPDX-License-Identifier: Apache-2.0
/** An eventfd: what `vm.ioeventfd` signals and `vm.irqfd` listens to. */

import { constants } from "node:os";
import koffi from "koffi";
import { check, raw } from "../ffi/raw.js";
import { Handle, type SharedHandle } from "./handle.js";

type PollHandle = ReturnType<typeof koffi.node.poll>;

export class EventFd implements Disposable {
  readonly #handle: Handle;
  #poll: PollHandle | undefined;

  private constructor(handle: Handle) {
    this.#handle = handle;
  }

  /** A new one, non-blocking, closed on exec. */
  static create(initial = 0): EventFd {
    return new EventFd(Handle.own(check(raw.eventfd(initial), "eventfd"), "eventfd"));
  }

  /** The same eventfd in another thread: `share()` gives what to post there. */
  static attach(shared: SharedHandle): EventFd {
    return new EventFd(Handle.attach(shared));
  }

  share(): SharedHandle {
    return this.#handle.share();
  }

  get fd(): number {
    return this.#handle.fd;
  }

  /** Add to the counter. */
  signal(count: number | bigint = 1): void {
    check(raw.eventfdWrite(this.#handle.fd, count), "writing an eventfd");
  }

  /** The counter, which becomes 0 again; 0n when nothing was signalled since. Does not block. */
  read(): bigint {
    const value = new BigUint64Array(1);
    const result = raw.eventfdRead(this.#handle.fd, value);
    if (result !== -constants.errno.EAGAIN) {
      check(result, "reading an eventfd");
    }
    return value[0] ?? 0n;
  }

  /** Call `listener` with the counter from the event loop, until `close` or another call. It keeps the
   *  process alive. */
  onSignal(listener: ((count: bigint) => void) | undefined): void {
    this.#poll?.close();
    this.#poll = undefined;
    if (listener !== undefined) {
      this.#poll = koffi.node.poll(this.#handle.fd, { readable: true }, () => {
        const count = this.#handle.closed ? 0n : this.read();
        if (count !== 0n) {
          listener(count);
        }
      });
    }
  }

  close(): void {
    this.#poll?.close();
    this.#poll = undefined;
    this.#handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
