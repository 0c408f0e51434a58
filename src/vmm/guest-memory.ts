// SPDX-License-Identifier: Apache-2.0
/** Guest RAM as views without copies, addressed by guest-physical address. */
import { ClosedError, VmmError } from "../errors.js";
import { NativeMemory } from "../ffi/index.js";
import * as native from "../ffi/machine.js";

interface Slot {
  readonly gpa: bigint;
  readonly bytes: bigint;
  readonly memory: NativeMemory;
}

/** A view keeps the machine alive: a forgotten one would be destroyed, and its memory with it. */
const ownerOf = new WeakMap<ArrayBufferLike, object>();

export class GuestMemory {
  readonly #slots: readonly Slot[];
  readonly #owner: object;
  #closed = false;

  /** Borrows the slots of a machine, `owner`'s; `close()` must come before the machine is destroyed. */
  constructor(handle: native.MachineHandle, owner: object) {
    this.#owner = owner;
    this.#slots = native.slots(handle).map((slot) => ({
      gpa: slot.gpa,
      bytes: slot.bytes,
      memory: NativeMemory.borrow(slot.host, slot.bytes, "guest memory"),
    }));
  }

  /** The contiguous pieces of RAM. */
  get regions(): readonly { readonly gpa: bigint; readonly bytes: bigint }[] {
    return this.#slots.map(({ gpa, bytes }) => ({ gpa, bytes }));
  }

  /** Host addresses [from, to) of the regions. */
  get hostRanges(): readonly { readonly from: bigint; readonly to: bigint }[] {
    return this.#slots.map(({ memory, bytes }) => ({ from: memory.address, to: memory.address + bytes }));
  }

  /** Total bytes. */
  get size(): bigint {
    return this.#slots.reduce((sum, slot) => sum + slot.bytes, 0n);
  }

  /** A view of [gpa, gpa + length), detached when the machine is disposed. @throws VmmError E_RANGE */
  bytes(gpa: number | bigint, length: number): Uint8Array {
    const { memory, offset } = this.#locate(gpa, length);
    return this.#kept(memory.window(offset, length));
  }

  /** As `bytes`, as a DataView. x86 is little-endian: pass `true` to its accessors. */
  view(gpa: number | bigint, length: number): DataView {
    const { memory, offset } = this.#locate(gpa, length);
    return this.#kept(memory.dataView(offset, length));
  }

  /** A copy. */
  read(gpa: number | bigint, length: number): Buffer {
    return Buffer.from(this.bytes(gpa, length));
  }

  write(gpa: number | bigint, data: Uint8Array): void {
    this.bytes(gpa, data.byteLength).set(data);
  }

  /** Detach every view that was handed out. */
  close(): void {
    this.#closed = true;
    for (const slot of this.#slots) {
      slot.memory.close();
    }
  }

  #kept<View extends ArrayBufferView>(view: View): View {
    ownerOf.set(view.buffer, this.#owner);
    return view;
  }

  #locate(gpa: number | bigint, length: number): { memory: NativeMemory; offset: bigint } {
    if (this.#closed) {
      throw new ClosedError("guest memory is gone: the machine was disposed");
    }
    const start = BigInt(gpa);
    const slot = this.#slots.find((s) => start >= s.gpa && start < s.gpa + s.bytes);
    if (slot === undefined || length < 0 || start + BigInt(length) > slot.gpa + slot.bytes) {
      throw new VmmError("E_RANGE", `0x${start.toString(16)}+${length} is not guest RAM`, {
        hint: `RAM is at ${this.#slots.map((s) => `0x${s.gpa.toString(16)}-0x${(s.gpa + s.bytes - 1n).toString(16)}`).join(", ")}`,
        value: start,
      });
    }
    return { memory: slot.memory, offset: start - slot.gpa };
  }
}
