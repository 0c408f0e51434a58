// SPDX-License-Identifier: Apache-2.0
/** A virtual machine: memory, vCPUs, interrupts, clock. */
import { ArgumentError, ClosedError, V3mError } from "../errors.js";
import type { Backing } from "../ffi/layouts.js";
import { NativeMemory } from "../ffi/native-memory.js";
import { Cap, type CapName, Mem } from "./constants.js";
import { Handle, type SharedHandle } from "./handle.js";
import { VmInterrupts } from "./interrupts.js";
import { System, Vm as V } from "./ioctl.js";
import { MemorySlot, PAGE } from "./memory-slot.js";
import { type KvmStats, readStats } from "./stats.js";
import { type ClockData, KvmClockData, KvmEnableCap } from "./structs.js";
import { Vcpu } from "./vcpu.js";

/** For `addMemory`. Either `size` (new memory) or `memory` (existing, stays the caller's) must be given. */
export interface MemoryOptions {
  /** Guest-physical address; a multiple of 4 KiB. Default 0. */
  readonly gpa?: bigint | number;
  /** Bytes; a multiple of the page size. */
  readonly size?: number | bigint;
  /** What new memory is made of: `Backing.*`. */
  readonly backing?: Backing;
  readonly memory?: NativeMemory;
  /** Slot number; default: the lowest free one. */
  readonly slot?: number;
  /** Writes by the guest become mmio exits. */
  readonly readonly?: boolean;
  /** Record written pages from the start. */
  readonly logDirty?: boolean;
}

/** Room for KVM's internal page tables on Intel, below 4 GiB, where no RAM should be. */
const IDENTITY_MAP_GPA = 0xfeff_c000n;
const TSS_GPA = 0xfeff_d000n;

export class Vm extends VmInterrupts implements Disposable {
  protected readonly handle: Handle;
  readonly #slots = new Map<number, MemorySlot>();
  readonly #vcpus = new Map<number, Vcpu>();
  readonly #mmapSize: number;

  private constructor(handle: Handle, mmapSize: number) {
    super();
    this.handle = handle;
    this.#mmapSize = mmapSize;
  }

  /** @internal Use `kvm.createVm`. */
  static create(kvm: Handle, mmapSize: number): Vm {
    const handle = Handle.own(kvm.ioctlValue(System.CREATE_VM, "KVM_CREATE_VM"), "the VM");
    const vm = new Vm(handle, mmapSize);
    try {
      vm.setIdentityMapAddress(IDENTITY_MAP_GPA);
      vm.setTssAddress(TSS_GPA);
    } catch (error) {
      // Only Intel needs them, and KVM without hardware virtualization need not know them.
      if (!(error instanceof V3mError)) {
        throw error;
      }
    }
    return vm;
  }

  get fd(): number {
    return this.handle.fd;
  }

  get closed(): boolean {
    return this.handle.closed;
  }

  /** The descriptor for another thread; vCPUs and memory have their own `share()`. */
  share(): SharedHandle {
    return this.handle.share();
  }

  /**
   * Give the guest RAM: `vm.addMemory({ gpa: 0n, size: 1 << 20 })`.
   * @throws KvmError E_OVERLAP where it overlaps another slot, E_NO_MEMORY, E_INVALID
   */
  addMemory(options: MemoryOptions): MemorySlot {
    const gpa = BigInt(options.gpa ?? 0);
    const slot = options.slot ?? this.#freeSlot();
    if (this.#slots.has(slot)) {
      throw new ArgumentError(`memory slot ${slot} is taken`, { value: BigInt(slot) });
    }
    if ((options.memory === undefined) === (options.size === undefined)) {
      throw new ArgumentError("addMemory takes either size or memory");
    }
    if (gpa < 0n || gpa % BigInt(PAGE) !== 0n) {
      throw new ArgumentError(`guest address 0x${gpa.toString(16)} is not a multiple of 4 KiB`, {
        value: gpa,
      });
    }
    const label = `guest RAM at 0x${gpa.toString(16)}`;
    this.#checkOpen();
    const memory = options.memory ?? NativeMemory.allocate(options.size ?? 0, options.backing, label);
    const flags =
      (options.readonly === true ? Mem.READONLY : 0) | (options.logDirty === true ? Mem.LOG_DIRTY_PAGES : 0);
    const owned = options.memory === undefined;
    try {
      const added = new MemorySlot(this.handle, slot, gpa, memory, flags, owned, (gone) => {
        this.#slots.delete(gone.slot);
      });
      this.#slots.set(slot, added);
      return added;
    } catch (error) {
      if (owned) {
        memory.close();
      }
      throw error;
    }
  }

  #checkOpen(): void {
    if (this.handle.closed) {
      throw new ClosedError("the VM is closed, and its memory with it");
    }
  }

  #freeSlot(): number {
    let slot = 0;
    while (this.#slots.has(slot)) {
      slot += 1;
    }
    return slot;
  }

  /** The memory slots, in the order in which they were added. */
  get slots(): MemorySlot[] {
    return [...this.#slots.values()];
  }

  /** The vCPUs that are open. */
  get vcpus(): Vcpu[] {
    return [...this.#vcpus.values()];
  }

  /** Guest RAM [gpa, gpa + length) without a copy; it must lie in one slot. @throws V3mError E_RANGE */
  memory(gpa: bigint | number, length: number): Uint8Array {
    const at = BigInt(gpa);
    for (const slot of this.#slots.values()) {
      if (at >= slot.gpa && at + BigInt(length) <= slot.gpa + BigInt(slot.size)) {
        return slot.window(at - slot.gpa, length);
      }
    }
    this.#checkOpen();
    throw new V3mError("E_RANGE", `guest memory 0x${at.toString(16)}+${length} is not RAM of one slot`, {
      value: at,
    });
  }

  /** Copy bytes into guest RAM. */
  write(gpa: bigint | number, bytes: ArrayLike<number>): void {
    this.memory(gpa, bytes.length).set(bytes);
  }

  /** Create a vCPU. With the irqchip, `id` is its APIC id; vCPU 0 starts, others wait for INIT and SIPI. */
  createVcpu(id = 0): Vcpu {
    const vcpu = Vcpu.create(
      this.handle,
      id,
      (gone) => {
        this.#vcpus.delete(gone.id);
      },
      this.#mmapSize,
    );
    this.#vcpus.set(id, vcpu);
    return vcpu;
  }

  /** Value of a capability in this VM; 0 means no. */
  checkExtension(cap: CapName | number): number {
    const number = typeof cap === "number" ? cap : Cap[cap];
    return this.handle.ioctlValue(System.CHECK_EXTENSION, "KVM_CHECK_EXTENSION", number);
  }

  /** Turn a capability on. */
  enableCap(cap: CapName | number, ...args: readonly bigint[]): void {
    const number = typeof cap === "number" ? cap : Cap[cap];
    const request = KvmEnableCap.alloc({ cap: number, args: [...args] });
    this.handle.ioctl(V.ENABLE_CAP, `KVM_ENABLE_CAP ${cap}`, request);
  }

  /** Three pages of guest-physical space for KVM's own use on Intel. Set when the VM is made; before vCPUs. */
  setTssAddress(gpa: bigint): void {
    this.handle.ioctlValue(V.SET_TSS_ADDR, "KVM_SET_TSS_ADDR", gpa);
  }

  /** One page likewise. */
  setIdentityMapAddress(gpa: bigint): void {
    this.handle.ioctl(V.SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", BigUint64Array.of(gpa));
  }

  /** Which vCPU starts; 0 unless set. Before the first vCPU. */
  setBootVcpu(id: number): void {
    this.handle.ioctlValue(V.SET_BOOT_CPU_ID, "KVM_SET_BOOT_CPU_ID", id);
  }

  /** kvmclock as the guest sees it, nanoseconds. */
  getClock(): ClockData {
    const buffer = KvmClockData.alloc();
    this.handle.ioctl(V.GET_CLOCK, "KVM_GET_CLOCK", buffer);
    return KvmClockData.decode(buffer);
  }

  /** @param clock nanoseconds */
  setClock(clock: bigint): void {
    this.handle.ioctl(V.SET_CLOCK, "KVM_SET_CLOCK", KvmClockData.alloc({ clock }));
  }

  /** KVM's counters of the VM. @throws KvmError before Linux 5.14. */
  stats(): KvmStats {
    return readStats(this.handle.ioctlValue(V.GET_STATS_FD, "KVM_GET_STATS_FD"));
  }

  /** Close vCPUs, VM and memory, in this order. Views on its memory are detached. May be called again. */
  close(): void {
    if (this.handle.closed) {
      return;
    }
    for (const vcpu of this.vcpus) {
      vcpu.close();
    }
    this.handle.close();
    for (const slot of this.slots) {
      slot.release();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
