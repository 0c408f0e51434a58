// SPDX-License-Identifier: Apache-2.0
/** A piece of guest RAM: a memory slot of KVM over native memory, seen without copies. */
import { ArgumentError } from "../errors.js";
import type { NativeMemory } from "../ffi/native-memory.js";
import { withAddress } from "../ffi/pin.js";
import { Mem } from "./constants.js";
import type { Handle } from "./handle.js";
import { Vm as VmIoctl } from "./ioctl.js";
import { KvmClearDirtyLog, KvmDirtyLog, KvmUserspaceMemoryRegion } from "./structs.js";

export const PAGE = 4096;

/** Made by `vm.addMemory`. */
export class MemorySlot {
  readonly slot: number;
  /** Guest-physical address of the first byte. */
  readonly gpa: bigint;
  /** Length in bytes. */
  readonly size: number;
  /** What is behind it. Open until the slot is removed or the VM closed. */
  readonly memory: NativeMemory;
  readonly #vm: Handle;
  readonly #owned: boolean;
  readonly #onRemove: (slot: MemorySlot) => void;
  #flags: number;
  #removed = false;

  /** @internal Use `vm.addMemory`. */
  constructor(
    vm: Handle,
    slot: number,
    gpa: bigint,
    memory: NativeMemory,
    flags: number,
    owned: boolean,
    onRemove: (slot: MemorySlot) => void,
  ) {
    this.#vm = vm;
    this.slot = slot;
    this.gpa = gpa;
    this.size = memory.size;
    this.memory = memory;
    this.#flags = flags;
    this.#owned = owned;
    this.#onRemove = onRemove;
    this.#set(this.size);
  }

  #set(size: number): void {
    const region = KvmUserspaceMemoryRegion.alloc({
      slot: this.slot,
      flags: this.#flags,
      guest_phys_addr: this.gpa,
      memory_size: BigInt(size),
      userspace_addr: this.memory.address,
    });
    this.#vm.ioctl(VmIoctl.SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", region);
  }

  /** The whole slot as bytes; offsets are from `gpa`. @throws V3mError E_RANGE above 4 GiB: `window`. */
  get bytes(): Uint8Array {
    return this.memory.bytes;
  }

  /** The whole slot as a DataView. */
  get view(): DataView {
    return this.memory.view;
  }

  /** Part of the slot; `offset` from `gpa`. */
  window(offset: number | bigint, length: number): Uint8Array {
    return this.memory.window(offset, length);
  }

  /** Whether KVM records which pages the guest writes. */
  get logDirty(): boolean {
    return (this.#flags & Mem.LOG_DIRTY_PAGES) !== 0;
  }

  set logDirty(on: boolean) {
    this.#flags = on ? this.#flags | Mem.LOG_DIRTY_PAGES : this.#flags & ~Mem.LOG_DIRTY_PAGES;
    this.#set(this.size);
  }

  /** Bytes of a dirty bitmap: a bit per page, rounded to 64 pages. */
  get bitmapBytes(): number {
    return Math.ceil(this.size / PAGE / 64) * 8;
  }

  /**
   * The pages written since the last call, a bit each (bit 0 of byte 0 is the first page). Protects them
   * again, unless Cap.MANUAL_DIRTY_LOG_PROTECT2 is enabled: then `clearDirtyLog` does.
   */
  getDirtyLog(): Uint8Array {
    const bitmap = new Uint8Array(this.bitmapBytes);
    withAddress(bitmap, (address) => {
      const log = KvmDirtyLog.alloc({ slot: this.slot, dirty_bitmap: address });
      this.#vm.ioctl(VmIoctl.GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG", log);
    });
    return bitmap;
  }

  /** Guest-physical addresses of the pages written since the last call. */
  dirtyPages(): bigint[] {
    return pagesOf(this.getDirtyLog()).map((page) => this.gpa + BigInt(page) * BigInt(PAGE));
  }

  /**
   * Protect again the pages whose bits are set. Needs Cap.MANUAL_DIRTY_LOG_PROTECT2 enabled.
   * @param firstPage multiple of 64
   * @param pages multiple of 64, or up to the end of the slot
   */
  clearDirtyLog(bitmap: Uint8Array, firstPage = 0, pages = this.size / PAGE - firstPage): void {
    if (bitmap.byteLength * 8 < pages) {
      throw new ArgumentError(`a bitmap for ${pages} pages has ${Math.ceil(pages / 8)} bytes`, {
        value: BigInt(bitmap.byteLength),
      });
    }
    withAddress(bitmap, (address) => {
      const log = KvmClearDirtyLog.alloc({
        slot: this.slot,
        num_pages: pages,
        first_page: BigInt(firstPage),
        dirty_bitmap: address,
      });
      this.#vm.ioctl(VmIoctl.CLEAR_DIRTY_LOG, "KVM_CLEAR_DIRTY_LOG", log);
    });
  }

  /** Take the memory away from the guest. Memory that `addMemory` made is given back, views and all. */
  remove(): void {
    if (!this.#removed) {
      this.#set(0);
      this.release();
    }
  }

  /** @internal The VM is gone: only the memory is left to give back. */
  release(): void {
    if (!this.#removed) {
      this.#removed = true;
      if (this.#owned) {
        this.memory.close();
      }
      this.#onRemove(this);
    }
  }
}

/** Numbers of the bits that are set. */
export function pagesOf(bitmap: Uint8Array): number[] {
  const pages: number[] = [];
  bitmap.forEach((byte, i) => {
    for (let bit = 0; byte >> bit !== 0; bit++) {
      if (((byte >> bit) & 1) !== 0) {
        pages.push(i * 8 + bit);
      }
    }
  });
  return pages;
}
