// SPDX-License-Identifier: Apache-2.0
/** A vCPU: run it, see why it came out, kick it out from another thread. */
import { constants } from "node:os";
import { NativeMemory, type SharedMemory } from "../ffi/native-memory.js";
import { check, raw, rawError } from "../ffi/raw.js";
import { type Exit, ExitDecoder } from "./exits.js";
import { Handle, type SharedHandle } from "./handle.js";
import { System, Vm as VmIoctl } from "./ioctl.js";
import { type KvmStats, readStats } from "./stats.js";
import { KvmRun } from "./structs.js";
import { VcpuState } from "./vcpu-state.js";

/** Plain data by which another thread attaches to a vCPU. */
export interface SharedVcpu {
  readonly id: number;
  readonly vcpu: SharedHandle;
  readonly vm: SharedHandle;
  readonly run: SharedMemory;
  /** Thread that runs it now, or 0. */
  readonly runner: SharedArrayBuffer;
}

const { EINTR, ESRCH } = constants.errno;
const IMMEDIATE_EXIT = KvmRun.offsets.immediate_exit as number;
const REQUEST_WINDOW = KvmRun.offsets.request_interrupt_window as number;
const IF_FLAG = KvmRun.offsets.if_flag as number;
const READY = KvmRun.offsets.ready_for_interrupt_injection as number;

/**
 * One vCPU. `run()` blocks its thread while the guest runs; the thread of the first `run()` is the one
 * that kicks reach, so run a vCPU in one thread only. Any thread may hold the object: see `share`.
 */
export class Vcpu extends VcpuState implements Disposable {
  readonly id: number;
  protected readonly handle: Handle;
  protected readonly vmHandle: Handle;
  readonly #memory: NativeMemory;
  readonly #run: DataView;
  readonly #decoder: ExitDecoder;
  readonly #runner: Int32Array;
  readonly #native = raw.run;
  readonly #onClose: (() => void) | undefined;
  /** The descriptor while this thread may run it, else -1: what the hot path looks at. */
  #runFd = -1;

  private constructor(
    id: number,
    handle: Handle,
    vmHandle: Handle,
    memory: NativeMemory,
    runner: Int32Array,
    onClose?: () => void,
  ) {
    super();
    this.id = id;
    this.handle = handle;
    this.vmHandle = vmHandle;
    this.#memory = memory;
    this.#run = memory.view;
    this.#decoder = new ExitDecoder(this.#run);
    this.#runner = runner;
    this.#onClose = onClose;
  }

  /** @internal Use `vm.createVcpu`. */
  static create(vm: Handle, id: number, onClose: (vcpu: Vcpu) => void, mmapSize: number): Vcpu {
    const handle = Handle.own(vm.ioctlValue(VmIoctl.CREATE_VCPU, "KVM_CREATE_VCPU", id), `vCPU ${id}`);
    try {
      const memory = NativeMemory.map(handle.fd, mmapSize, 0, `kvm_run of vCPU ${id}`);
      const runner = new Int32Array(new SharedArrayBuffer(4));
      const vcpu: Vcpu = new Vcpu(id, handle, vm, memory, runner, () => onClose(vcpu));
      return vcpu;
    } catch (error) {
      handle.close();
      throw error;
    }
  }

  /** The same vCPU in another thread, from the data that `share()` gave. Close it there too. */
  static attach(shared: SharedVcpu): Vcpu {
    const handle = Handle.attach(shared.vcpu);
    const vm = Handle.attach(shared.vm);
    const memory = NativeMemory.attach(shared.run);
    const runner = new Int32Array(shared.runner);
    return new Vcpu(shared.id, handle, vm, memory, runner, () => vm.close());
  }

  /** Plain data for postMessage or workerData. */
  share(): SharedVcpu {
    return {
      id: this.id,
      vcpu: this.handle.share(),
      vm: this.vmHandle.share(),
      run: this.#memory.share(),
      runner: this.#runner.buffer as SharedArrayBuffer,
    };
  }

  /** kvm_run: what KVM and user space share. */
  get kvmRun(): DataView {
    return this.#memory.view;
  }

  /**
   * Enter the guest until it needs something. One native call, no copy. A port or MMIO access is complete
   * only with the next `run()` (or `completeIo`): answer reads in `exit.data` before it.
   * @throws KvmError where KVM_RUN fails (EFAULT: the guest used memory that cannot be had).
   */
  run(): Exit {
    if (this.#runFd < 0) {
      this.#prepare();
    }
    const result = this.#native(this.#runFd);
    if (result === 0) {
      return this.#decoder.decode();
    }
    return this.#interrupted(result);
  }

  /** Finish the access of the last io, mmio, rdmsr or wrmsr exit without running the guest on, so that
   *  registers and memory show its effect. */
  completeIo(): void {
    this.#run.setUint8(IMMEDIATE_EXIT, 1);
    const exit = this.run();
    if (exit.reason !== "intr") {
      throw rawError(-EINTR, `completing an access gave a new exit (${exit.reason})`);
    }
  }

  #prepare(): void {
    const fd = this.handle.fd;
    Atomics.store(this.#runner, 0, check(raw.prepareKicks(fd), "KVM_SET_SIGNAL_MASK"));
    this.#runFd = fd;
  }

  #interrupted(result: number): Exit {
    if (result !== -EINTR) {
      throw rawError(result, `KVM_RUN of vCPU ${this.id}`);
    }
    const kicked = this.#run.getUint8(IMMEDIATE_EXIT) !== 0;
    this.#run.setUint8(IMMEDIATE_EXIT, 0);
    return { reason: "intr", kicked };
  }

  /**
   * Make the present or the next `run()` return with reason `intr`, from any thread. A kick is never lost;
   * one that meets the end of a run may end the next one as well.
   */
  kick(): void {
    let tid: number;
    do {
      tid = Atomics.load(this.#runner, 0);
      const result = raw.kick(this.#memory.address, tid);
      if (result !== -ESRCH) {
        check(result, "kick");
      }
      // A runner that came in between would have missed the flag and the signal: look again.
    } while (tid !== Atomics.load(this.#runner, 0));
  }

  /** Come out with `irq-window-open` as soon as the guest can take an interrupt. Without irqchip only. */
  set requestInterruptWindow(on: boolean) {
    this.#run.setUint8(REQUEST_WINDOW, on ? 1 : 0);
  }

  /** RFLAGS.IF at the last exit. */
  get interruptFlag(): boolean {
    return this.#run.getUint8(IF_FLAG) !== 0;
  }

  /** Whether `interrupt()` would be taken, at the last exit. */
  get readyForInterrupt(): boolean {
    return this.#run.getUint8(READY) !== 0;
  }

  /** KVM's counters of this vCPU. @throws KvmError before Linux 5.14. */
  stats(): KvmStats {
    return readStats(this.handle.ioctlValue(VmIoctl.GET_STATS_FD, "KVM_GET_STATS_FD"));
  }

  /** Value of a capability as the VM has it. */
  checkExtension(cap: number): number {
    return this.vmHandle.ioctlValue(System.CHECK_EXTENSION, "KVM_CHECK_EXTENSION", cap);
  }

  get fd(): number {
    return this.handle.fd;
  }

  get closed(): boolean {
    return this.handle.closed;
  }

  /** Not while another thread is in `run()`: kick it out and let it close its own object first. */
  close(): void {
    if (!this.handle.closed) {
      this.#runFd = -1;
      this.#memory.close();
      this.handle.close();
      this.#onClose?.();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
