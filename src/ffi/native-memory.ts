// SPDX-License-Identifier: Apache-2.0
/**
 * Native memory as JavaScript views that cannot outlive it. `close()` detaches every view handed out and
 * then gives the memory back: a stale view reads undefined or throws, and never touches unmapped memory.
 * Who forgets to close is caught by a finalizer, which runs once neither the object nor any view is left.
 */
import koffi from "koffi";
import { ArgumentError, ClosedError, V3mError } from "../errors.js";
import { detach } from "./detach.js";
import { Backing } from "./layouts.js";
import { check, raw } from "./raw.js";

/** Largest view that Node makes over external memory: 4 GiB less a page (5 GiB would abort the process). */
export const VIEW_MAX = 2 ** 32 - 4096;
/** Memory larger than VIEW_MAX is seen through buffers of that size at every CHUNK bytes, so that any
 *  window of at most CHUNK bytes (less a page) lies in one of them. */
const CHUNK = 2 ** 31;

/** What another thread needs to see the same memory: plain data for postMessage or workerData. */
export interface SharedMemory {
  readonly address: bigint;
  readonly size: number;
  readonly label: string;
  readonly owned: boolean;
  /** How many NativeMemory objects, in all threads, hold the memory. */
  readonly holders: SharedArrayBuffer;
}

/** What must survive the object, for the finalizer. */
interface Mapping {
  readonly address: bigint;
  readonly size: number;
  readonly fd: number;
  readonly owned: boolean;
  readonly holders: Int32Array;
  /** ArrayBuffers that could not be detached and may still be in use. */
  undetached: number;
  released: boolean;
}

function release(mapping: Mapping): void {
  if (mapping.released || mapping.undetached > 0) {
    return;
  }
  mapping.released = true;
  if (mapping.fd >= 0) {
    raw.close(mapping.fd);
  }
  if (Atomics.sub(mapping.holders, 0, 1) === 1 && mapping.owned) {
    raw.unmap(mapping.address, mapping.size);
  }
}

const forgotten = new FinalizationRegistry<Mapping>(release);
const undetached = new FinalizationRegistry<Mapping>((mapping) => {
  mapping.undetached -= 1;
  release(mapping);
});
/** A view keeps its NativeMemory alive, so the finalizer cannot unmap under it. */
const ownerOf = new WeakMap<ArrayBuffer, NativeMemory>();

/** A range of native memory. Offsets and lengths are bytes. */
export class NativeMemory {
  /** Length in bytes. */
  readonly size: number;
  /** What it is, for error messages: "guest RAM". */
  readonly label: string;
  readonly #mapping: Mapping;
  readonly #buffers = new Map<number, ArrayBuffer>();
  #bytes: Uint8Array | undefined;
  #view: DataView | undefined;
  #closed = false;

  private constructor(
    address: bigint,
    size: number,
    label: string,
    how: { owned: boolean; fd?: number; holders: Int32Array },
  ) {
    this.size = size;
    this.label = label;
    this.#mapping = {
      address,
      size,
      fd: how.fd ?? -1,
      owned: how.owned,
      holders: how.holders,
      undetached: 0,
      released: false,
    };
    forgotten.register(this, this.#mapping, this);
  }

  /**
   * Zeroed memory, aligned to 2 MiB. Owned by the object.
   * @param size bytes; a multiple of 4 KiB, or of the huge page size.
   * @throws KvmError E_NO_MEMORY, E_INVALID
   */
  static allocate(size: number | bigint, backing: Backing = Backing.ANON, label = "memory"): NativeMemory {
    const address = new BigUint64Array(1);
    const fd = check(
      raw.memory(size, backing, address),
      `allocating ${size} bytes of ${label}`,
      BigInt(size),
    );
    return new NativeMemory(address[0] ?? 0n, Number(size), label, {
      owned: true,
      fd: backing >= Backing.MEMFD ? fd : -1,
      holders: sharedCount(),
    });
  }

  /** Map a descriptor, shared, readable and writable. The descriptor stays the caller's. */
  static map(fd: number, size: number, offset = 0, label = "mapping"): NativeMemory {
    const address = new BigUint64Array(1);
    check(raw.map(fd, size, offset, address), `mapping ${size} bytes of ${label}`, BigInt(size));
    return new NativeMemory(address[0] ?? 0n, size, label, { owned: true, holders: sharedCount() });
  }

  /**
   * Memory that somebody else owns and that stays valid until this object (and everyone who attached to
   * it: see `holders`) is closed. Closing revokes the views and leaves the memory alone.
   */
  static borrow(address: bigint, size: number | bigint, label = "memory"): NativeMemory {
    return new NativeMemory(address, Number(size), label, { owned: false, holders: sharedCount() });
  }

  /**
   * The other side of `share()`, usually in a Worker. The memory stays mapped until the last holder in any
   * thread has closed; a Worker that is terminated without closing leaves it mapped for good.
   * @throws ClosedError where it is gone already.
   */
  static attach(shared: SharedMemory): NativeMemory {
    const holders = new Int32Array(shared.holders);
    for (;;) {
      const now = Atomics.load(holders, 0);
      if (now <= 0) {
        throw new ClosedError(`${shared.label} is gone: the thread that shared it has closed it`);
      }
      if (Atomics.compareExchange(holders, 0, now, now + 1) === now) {
        return new NativeMemory(shared.address, shared.size, shared.label, { owned: shared.owned, holders });
      }
    }
  }

  /** Plain data by which another thread attaches to this memory while this object is open. */
  share(): SharedMemory {
    this.#check();
    const { address, owned, holders } = this.#mapping;
    const { size, label } = this;
    return { address, size, label, owned, holders: holders.buffer as SharedArrayBuffer };
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** How many objects, in all threads, hold this memory now; 0 when it is nobody's any more. */
  get holders(): number {
    return Atomics.load(this.#mapping.holders, 0);
  }

  /** Host virtual address of the first byte. */
  get address(): bigint {
    this.#check();
    return this.#mapping.address;
  }

  /** The descriptor behind MEMFD and huge-page memory (owned by this object), or -1. */
  get fd(): number {
    this.#check();
    return this.#mapping.fd;
  }

  /** All of it, without a copy. @throws V3mError E_RANGE above VIEW_MAX bytes: use `window`. */
  get bytes(): Uint8Array {
    if (this.#closed || this.#bytes === undefined) {
      this.#bytes = new Uint8Array(this.#whole());
    }
    return this.#bytes;
  }

  /** All of it as a DataView (x86 is little-endian: pass `true`). @throws as `bytes`. */
  get view(): DataView {
    if (this.#closed || this.#view === undefined) {
      this.#view = new DataView(this.#whole());
    }
    return this.#view;
  }

  /** Bytes [offset, offset + length) without a copy, at most 2 GiB − 4 KiB of a memory above VIEW_MAX. */
  window(offset: number | bigint, length: number): Uint8Array {
    const { buffer, at } = this.#locate(offset, length);
    return new Uint8Array(buffer, at, length);
  }

  /** As `window`, as a DataView. */
  dataView(offset: number | bigint, length: number): DataView {
    const { buffer, at } = this.#locate(offset, length);
    return new DataView(buffer, at, length);
  }

  /**
   * Detach every view and give the memory back (unless others hold it still, or it is borrowed). Not while
   * an asynchronous operation (fs.write, zlib …) works on a view. May be called again.
   */
  close(): void {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    this.#bytes = undefined;
    this.#view = undefined;
    for (const buffer of this.#buffers.values()) {
      if (!detach(buffer)) {
        this.#mapping.undetached += 1;
        undetached.register(buffer, this.#mapping);
      }
    }
    this.#buffers.clear();
    forgotten.unregister(this);
    release(this.#mapping);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#closed) {
      throw new ClosedError(`${this.label} is gone: it was closed, and its views with it`);
    }
  }

  #whole(): ArrayBuffer {
    this.#check();
    if (this.size > VIEW_MAX) {
      throw new V3mError("E_RANGE", `${this.label} has ${this.size} bytes, more than one view can hold`, {
        hint: "use window(offset, length)",
        value: BigInt(this.size),
      });
    }
    return this.#buffer(0);
  }

  #locate(offset: number | bigint, length: number): { buffer: ArrayBuffer; at: number } {
    this.#check();
    const start = Number(offset);
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(length) || start < 0 || length < 0) {
      throw new ArgumentError(`bad window of ${this.label}: offset ${offset}, length ${length}`);
    }
    if (start + length > this.size) {
      throw new V3mError("E_RANGE", `${start}+${length} is outside the ${this.size} bytes of ${this.label}`, {
        value: BigInt(start),
      });
    }
    const first = Math.min(start, this.size - 1);
    const chunk = this.size > VIEW_MAX ? first - (first % CHUNK) : 0;
    const at = start - chunk;
    if (at + length > VIEW_MAX) {
      throw new V3mError("E_RANGE", `a window of ${length} bytes is more than one view can hold`, {
        hint: "take windows of at most 2 GiB - 4 KiB",
        value: BigInt(length),
      });
    }
    return { buffer: this.#buffer(chunk), at };
  }

  #buffer(start: number): ArrayBuffer {
    let buffer = this.#buffers.get(start);
    if (buffer === undefined) {
      const length = Math.min(this.size - start, VIEW_MAX);
      buffer = koffi.view(this.#mapping.address + BigInt(start), length);
      this.#buffers.set(start, buffer);
      ownerOf.set(buffer, this);
    }
    return buffer;
  }
}

function sharedCount(): Int32Array {
  const count = new Int32Array(new SharedArrayBuffer(4));
  count[0] = 1;
  return count;
}
