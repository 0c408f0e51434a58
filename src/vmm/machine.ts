// SPDX-License-Identifier: Apache-2.0
/** A machine in this process: libvmmhpc's, with its console as a stream and its changes as events. */
import { EventEmitter } from "node:events";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ClosedError, VmmError } from "../errors.js";
import { setGenerationId } from "../ffi/devices.js";
import { EventType, POWER_BUTTON_GSI } from "../ffi/index.js";
import * as native from "../ffi/machine.js";
import * as monitor from "../ffi/monitor.js";
import { place } from "../ffi/place.js";
import * as snapshots from "../ffi/snapshot.js";
import { type Device, type DeviceError, handlerOf, rangeOf, spaceOf } from "./device.js";
import { AttachedDevices, generationId, planDevices } from "./device-plan.js";
import { Balloon } from "./devices.js";
import { readEvents } from "./event-stream.js";
import { type CloneOptions, cloneName, ForkPoint } from "./fork.js";
import { type GdbOptions, GdbServer } from "./gdb.js";
import { GuestMemory } from "./guest-memory.js";
import type { AdaptationModule, ModuleError } from "./module.js";
import { MachineModules, type ModuleHandle } from "./modules.js";
import { decodeInfo, type MonitorInfo, type MonitorOptions, monitorSpec } from "./monitor.js";
import { KERNEL_KINDS, type KernelKind, type MachineOptions, nativeBoot, nativeConfig } from "./options.js";
import { placementSpec } from "./performance.js";
import {
  type RestoreOptions,
  restoreFlags,
  type SnapshotOptions,
  saveFlags,
  snapshotNote,
  snapshotPath,
} from "./snapshot.js";
import { type KvmStats, type MachineStats, readKvmStats, StatsPage } from "./stats.js";
import { decodeStopInfo, type MachineState, type StopInfo, stateName } from "./stop-info.js";
import { unpackKernel } from "./unpack.js";
import { VcpuWorkers } from "./vcpu-workers.js";

/** Events of a machine and their arguments. */
export interface MachineEvents {
  /** The state changed. */
  state: [state: MachineState];
  /** The guest was reset and boots again; how many times so far. */
  reset: [count: number];
  /** It stopped or crashed; nothing follows. */
  stop: [info: StopInfo];
  /** A TypeScript device threw; the machine is being stopped. */
  deviceError: [error: DeviceError];
  /** An adaptation module failed and was taken out; the machine goes on. */
  moduleFailed: [error: ModuleError];
}

/** A device in place; `remove()` gives its range back, also while the guest runs. */
export interface DeviceHandle {
  remove(): Promise<void>;
}

interface Parts {
  readonly handle: native.MachineHandle;
  readonly devices: AttachedDevices;
  /** It is in a monitor, and was started: dispose() lets go of it. */
  readonly running?: boolean;
}

/** Machines that nobody disposed: destroyed when the object is collected. */
const forgotten = new FinalizationRegistry<Parts>(({ handle, devices }) => {
  void native.destroyAsync(handle).then(() => devices.release());
});

const KINDS = Object.fromEntries(
  Object.entries(KERNEL_KINDS).map(([name, value]) => [value, name]),
) as Readonly<Record<number, KernelKind>>;

export class Machine extends EventEmitter<MachineEvents> {
  readonly cpus: number;
  readonly memory: GuestMemory;
  /** What was loaded. */
  readonly kind: KernelKind;
  /** The file that was booted: the unpacked vmlinux for a compressed bzImage; undefined for content. */
  readonly kernelPath: string | undefined;
  /** Whether it is in a monitor process: after its start `dispose()` only lets go of it, and it goes on. */
  readonly monitored: boolean;
  /** The memory balloon, where there is one (`balloon: true`). */
  readonly balloon: Balloon;
  /** The adaptation modules in it. */
  readonly modules: MachineModules;
  readonly #devices: AttachedDevices;
  readonly #handle: native.MachineHandle;
  readonly #stats: StatsPage;
  readonly #handlers = new Set<bigint>();
  /** Calls that are in libvmmhpc now, in other threads: the machine must not go before they come back. */
  readonly #pending = new Set<Promise<unknown>>();
  #workers: VcpuWorkers | undefined;
  #console: Socket | undefined;
  #events: Socket | undefined;
  #started = false;
  #disposed: Promise<void> | undefined;
  #deviceError: DeviceError | undefined;
  #gdb: GdbServer | undefined;
  readonly #ended: Promise<StopInfo>;
  #resolveEnded: (info: StopInfo) => void = () => {};
  #rejectEnded: (error: Error) => void = () => {};
  #over = false;

  private constructor({ handle, devices, running = false }: Parts, cpus: number, path: string | undefined) {
    super();
    this.#handle = handle;
    this.#devices = devices;
    this.monitored = monitor.isRemote(handle);
    this.cpus = cpus;
    this.kernelPath = path;
    this.kind = KINDS[native.imageKind(handle)] ?? "auto";
    this.memory = new GuestMemory(handle, this);
    this.#stats = new StatsPage(handle);
    this.#ended = new Promise((resolve, reject) => {
      this.#resolveEnded = resolve;
      this.#rejectEnded = reject;
    });
    this.#ended.catch(() => {}); // for those who wait
    if (running) {
      this.#listen();
      this.#started = true;
    }
    this.balloon = new Balloon(() => this.#open());
    this.modules = new MachineModules({
      handle: () => this.#open(),
      cpus: this.cpus,
      memory: this.memory,
      track: (call) => this.#track(call),
      onFailed: (error) => this.emit("moduleFailed", error),
    });
    forgotten.register(this, { handle, devices }, this);
  }

  /**
   * Make a machine and load its guest; nothing runs before `start()`.
   * @throws VmmError, ArgumentError: nothing is left behind then.
   */
  static create(options: MachineOptions): Promise<Machine> {
    return Machine.#make(options, (config) => Promise.resolve(native.create(config)));
  }

  /**
   * As `create`, in a monitor process of its own, in a jail. Until `start()` it goes with this object; then it
   * is on its own. Guest memory, devices and debuggers of this process are not for it (E_UNSUPPORTED).
   * @throws VmmError, ArgumentError: nothing is left behind then but files in the directory
   */
  static async spawn(options: MachineOptions, where: MonitorOptions): Promise<Machine> {
    const spec = monitorSpec(where, options.disks?.length);
    return Machine.#make(options, (config) => monitor.spawnAsync(config, spec));
  }

  /** A machine that was started in a monitor, perhaps by another process. @throws VmmError E_STATE: it has ended */
  static async connect(directory: string): Promise<Machine> {
    const handle = await monitor.connectAsync(directory);
    try {
      const { cpus } = monitor.monitorInfo(handle);
      return new Machine({ handle, devices: new AttachedDevices(), running: true }, cpus, undefined);
    } catch (error) {
      await native.destroyAsync(handle);
      throw error;
    }
  }

  /**
   * Make a machine that goes on where another one was when `snapshot(directory)` was called, at its `start()`. Its
   * options are the other one's: the same vCPUs, memory and devices; the kernel is what a reset boots. Memory is
   * mapped from the snapshot, which may be removed but not changed; where it is compressed it is read.
   * @param where as for `spawn`: in a monitor process of its own
   * @throws VmmError E_INVALID: the options are another machine's; E_UNSUPPORTED: another CPU or version;
   *     E_BAD_IMAGE, E_TRUNCATED: the snapshot is damaged; ArgumentError. Nothing is left behind then.
   */
  static async restore(
    directory: string,
    options: MachineOptions & RestoreOptions,
    where?: MonitorOptions,
  ): Promise<Machine> {
    const path = snapshotPath(directory);
    const flags = restoreFlags(options);
    return Machine.#from((handle) => snapshots.restoreAsync(handle, path, flags), options, where);
  }

  /**
   * Make a machine that goes on where another one was at its `forkPoint()`, beside it: with its own generation ID, name
   * and MAC addresses, which the guest has to take up (docs/how-to/fork-a-vm.md); a network device with another address
   * has no link until its driver is bound again. Memory is shared with the other clones until somebody writes to it.
   * @param options the other one's, but for what is to be its own: disks, networks
   * @param where as for `spawn`: in a monitor process of its own
   * @throws as `restore`
   */
  static async clone(
    point: ForkPoint,
    options: MachineOptions & CloneOptions,
    where?: MonitorOptions,
  ): Promise<Machine> {
    const { taken } = point;
    const name = cloneName(options);
    return Machine.#from((handle) => snapshots.cloneAsync(handle, taken, name), options, where);
  }

  static #from(
    restore: (handle: native.MachineHandle) => Promise<void>,
    options: MachineOptions,
    where: MonitorOptions | undefined,
  ): Promise<Machine> {
    if (where === undefined) {
      return Machine.#make(options, (config) => Promise.resolve(native.create(config)), restore);
    }
    const spec = monitorSpec(where, options.disks?.length);
    return Machine.#make(options, (config) => monitor.spawnAsync(config, spec), restore);
  }

  static async #make(
    options: MachineOptions,
    make: (config: native.MachineConfig) => Promise<native.MachineHandle>,
    restore?: (handle: native.MachineHandle) => Promise<void>,
  ): Promise<Machine> {
    const plan = planDevices(options);
    const unpack = options.unpack !== false && (options.kind ?? "auto") === "auto";
    const kernel =
      unpack && typeof options.kernel === "string" ? await unpackForBoot(options.kernel) : options.kernel;
    const boot = nativeBoot(options, kernel);
    const placement = placementSpec(options);
    const handle = await make(nativeConfig(options));
    let devices: AttachedDevices | undefined;
    let machine: Machine | undefined;
    try {
      if (placement !== undefined) await place(handle, placement);
      devices = await AttachedDevices.attach(handle, plan);
      await restore?.(handle);
      await (monitor.isRemote(handle) ? native.loadAsync(handle, boot) : native.load(handle, boot));
      machine = new Machine(
        { handle, devices },
        options.cpus ?? 1,
        typeof kernel === "string" ? kernel : undefined,
      );
      await machine.#startWorkers(options);
      return machine;
    } catch (error) {
      if (machine === undefined) {
        native.destroy(handle);
        await devices?.release();
      } else {
        await machine.dispose();
      }
      throw error;
    }
  }

  get state(): MachineState {
    return stateName(native.getState(this.#open()));
  }

  /**
   * The 16550 as a stream. What the guest writes before anybody asks for this is dropped; afterwards a slow
   * reader holds the guest back. It ends when the machine has.
   */
  get console(): Duplex {
    if (this.#console === undefined) {
      this.#console = new Socket({
        fd: native.consoleOpen(this.#open()),
        readable: true,
        writable: true,
        allowHalfOpen: true,
      });
      // Writing to a machine that has ended is not an error worth a crash.
      this.#console.on("error", () => this.#console?.destroy());
      if (!this.#started) {
        this.#console.unref();
      }
    }
    return this.#console;
  }

  /** Connect the console to descriptors instead (-1: none); they stay the caller's. */
  attachConsole(inFd: number, outFd: number): void {
    native.consoleAttach(this.#open(), inFd, outFd);
  }

  start(): void {
    const handle = this.#open();
    this.#listen();
    try {
      native.start(handle);
    } catch (error) {
      this.#events?.destroy();
      this.#events = undefined;
      throw error;
    }
    this.#started = true;
    this.#console?.ref();
    this.#workers?.run();
  }

  /** Stop every vCPU outside the guest and the guest's clock. */
  pause(): Promise<void> {
    return this.#track(native.pauseAsync(this.#open()));
  }

  resume(): void {
    native.resume(this.#open());
  }

  /**
   * Write the machine's whole state to a new directory, which is there completely or not at all. A running machine
   * is paused meanwhile and goes on; a paused one stays paused. Disks, pmem files and the other ends of networks and
   * consoles are not part of it.
   * @throws VmmError E_IO: the directory exists, or the disk is full; E_STATE: it neither runs nor is paused;
   *     E_UNSUPPORTED: it has modules, vhost devices or read-only pmem
   */
  snapshot(directory: string, options: SnapshotOptions = {}): Promise<void> {
    const path = snapshotPath(directory);
    const base = options.base === undefined ? null : snapshotPath(options.base);
    const note = snapshotNote(options.note);
    return this.#track(snapshots.saveAsync(this.#open(), path, note, base, saveFlags(options)));
  }

  /**
   * The machine's state at this moment, for clones of it. A running machine is paused meanwhile and goes on; its memory
   * stays its own. What is not all zeroes in it is copied once, however many clones there will be.
   * @throws VmmError as `snapshot`
   */
  async forkPoint(): Promise<ForkPoint> {
    return new ForkPoint(await this.#track(snapshots.takeAsync(this.#open())));
  }

  /**
   * Have KVM log the pages that vCPUs write (what devices write is not logged), until the next reset; the guest's writes
   * are slower meanwhile. Not in a monitor. @throws VmmError E_UNSUPPORTED
   */
  logDirtyPages(): void {
    snapshots.dirtyLogStart(this.#open());
  }

  /** How many pages were written since `logDirtyPages()`, or the last call of this. @throws VmmError */
  dirtyPages(): number {
    return snapshots.dirtyLogCount(this.#open());
  }

  /** Press the reset button; the `reset` event tells when the guest boots again. */
  reset(): void {
    native.reset(this.#open());
  }

  /** Stop the machine as if its power was cut; resolves when it has stopped. */
  async stop(): Promise<StopInfo> {
    native.stop(this.#open());
    if (!this.#started) {
      this.#resolveEnded(this.stopInfo());
    }
    return this.wait();
  }

  /**
   * How the machine ended, when it has.
   * @throws DeviceError where a TypeScript device brought it down; VmmError E_TIMEOUT after timeoutMs.
   */
  async wait(timeoutMs?: number): Promise<StopInfo> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => {
          const text = `the machine still runs after ${timeoutMs} ms`;
          reject(new VmmError("E_TIMEOUT", text, { hint: "give it longer, or stop it" }));
        }, timeoutMs);
      }
    });
    try {
      const info = await Promise.race([this.#ended, late]);
      if (this.#deviceError !== undefined) {
        throw this.#deviceError;
      }
      return info;
    } finally {
      clearTimeout(timer);
    }
  }

  stopInfo(): StopInfo {
    return decodeStopInfo(native.getStopInfo(this.#open()));
  }

  /**
   * Add a device in this thread, before the start or while the guest runs. Convenient, but each access costs
   * a switch to this thread (23–35 µs) and waits for the event loop; `MachineOptions.deviceModules` does not.
   */
  addDevice(device: Device): DeviceHandle {
    const pointer = native.registerHandler(
      handlerOf(device, (error) => {
        native.stop(this.#handle);
        this.#onDeviceError(error);
      }),
    );
    let id: number;
    try {
      const { base, bytes } = rangeOf(device);
      id = native.deviceAdd(this.#open(), spaceOf(device), base, bytes, pointer);
    } catch (error) {
      native.unregisterHandler(pointer);
      throw error;
    }
    this.#handlers.add(pointer);
    const remove = async () => {
      if (this.#handlers.has(pointer)) {
        await this.#track(native.deviceRemoveAsync(this.#open(), id));
        this.#handlers.delete(pointer);
        native.unregisterHandler(pointer);
      }
    };
    let removed: Promise<void> | undefined;
    return {
      remove: () => {
        removed ??= remove();
        return removed;
      },
    };
  }

  /**
   * Put an adaptation module into the machine, before the start or while the guest runs (docs/reference/modules.md).
   * @param module a shared object (`.so`), an ES module with a default export, or that object itself
   * @throws VmmError, ArgumentError, or what its attach() throws
   */
  loadModule(module: string | URL | AdaptationModule, args = ""): Promise<ModuleHandle> {
    return this.modules.load(module, args);
  }

  /**
   * Let a gdb connect, before the start or later (docs/reference/gdb.md); one server a machine at a time.
   * The machine disposes of it, if nobody does before.
   * @throws VmmError: E_STATE where there is one, E_IO where port or socket cannot be had, E_UNSUPPORTED
   */
  gdb(options: GdbOptions = {}): GdbServer {
    this.#gdb = GdbServer.listen(this.#open(), options);
    return this.#gdb;
  }

  /** Set the level of an IOAPIC pin (GSI 0 to 23). */
  setIrq(gsi: number, level: boolean): void {
    native.irqSet(this.#open(), gsi, level);
  }

  /** Ask the guest to power off, as its power button would (`powerButton: true`): it may take its time, or not listen. */
  pressPowerButton(): void {
    this.setIrq(POWER_BUTTON_GSI, true);
    this.setIrq(POWER_BUTTON_GSI, false);
  }

  /** Change the VM generation ID, as after a copy was made of the machine: the guest reseeds. */
  setGenerationId(id: Uint8Array | "random"): void {
    setGenerationId(this.#open(), generationId(id));
  }

  /**
   * libvmmhpc's own handle, for native libraries on top of it (src/yod): valid until `dispose()`, to which
   * destroying it is left.
   */
  get nativeHandle(): native.MachineHandle {
    return this.#open();
  }

  /**
   * Another stream to the console of a machine in a monitor, what was kept of the past first. Up to eight are
   * attached at once, here and in other processes. @throws VmmError E_LIMIT
   */
  joinConsole(): Duplex {
    const fd = native.consoleOpen(this.#open());
    const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
    return socket.on("error", () => socket.destroy());
  }

  /** What the monitor says of itself. @throws VmmError E_STATE for a machine in this process */
  monitorInfo(): MonitorInfo {
    return decodeInfo(monitor.monitorInfo(this.#open()));
  }

  /** Ask whether the monitor answers. */
  ping(): Promise<void> {
    return this.#track(monitor.ping(this.#open()));
  }

  /** End machine and monitor at once, whatever they do. */
  quit(): Promise<void> {
    return this.#track(monitor.quit(this.#open()));
  }

  stats(): MachineStats {
    this.#open();
    return this.#stats.read();
  }

  kvmStats(): KvmStats {
    return readKvmStats(this.#open(), this.cpus);
  }

  /** Stop it, join its threads, give everything back. Views on guest memory are detached. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #open(): native.MachineHandle {
    if (this.#disposed !== undefined) {
      throw new ClosedError("the machine was disposed");
    }
    return this.#handle;
  }

  async #startWorkers(options: MachineOptions): Promise<void> {
    const modules = options.deviceModules ?? [];
    if (modules.length > 0) {
      this.#workers = new VcpuWorkers(this.#handle, this.cpus, modules, (e) => this.#onDeviceError(e));
      await this.#workers.attach();
    }
  }

  #listen(): void {
    this.#events ??= readEvents(native.openEvents(this.#handle), ({ type, arg }) => {
      this.#onEvent(type, Number(arg));
    }).once("end", () => {
      if (this.monitored && this.#disposed === undefined && !this.#over) {
        void this.#lost();
      }
    });
  }

  /** The stream of a monitor's events ended without a last word: it was killed. */
  async #lost(): Promise<void> {
    // Its descriptors are closed one after the other: when a request has failed all is settled.
    await this.#track(monitor.ping(this.#handle)).catch(() => {});
    if (this.#disposed === undefined && !this.#over) {
      this.#onEvent(EventType.STATE, native.getState(this.#handle));
    }
  }

  #track<T>(call: Promise<T>): Promise<T> {
    const settled = call.finally(() => this.#pending.delete(settled));
    this.#pending.add(settled);
    return settled;
  }

  /** Comes from inside a handler, where a listener must neither throw nor keep the guest waiting. */
  #onDeviceError(error: DeviceError): void {
    this.#deviceError ??= error;
    process.nextTick(() => this.emit("deviceError", error));
  }

  #onEvent(type: number, arg: number): void {
    if (this.#disposed !== undefined) {
      return;
    }
    if (type === EventType.MODULE_FAILED) {
      this.modules.onFailed(arg);
      return;
    }
    if (type === EventType.RESET) {
      this.modules.onReset();
      this.emit("reset", arg);
      return;
    }
    const state = stateName(arg);
    if (state !== "stopped" && state !== "crashed") {
      this.emit("state", state);
      return;
    }
    this.#over = true;
    const info = this.stopInfo(); // before the listeners, who may dispose of the machine
    this.#events?.destroy();
    this.#resolveEnded(info);
    this.emit("state", state);
    this.emit("stop", info);
  }

  async #dispose(): Promise<void> {
    forgotten.unregister(this);
    if (this.monitored) {
      await this.#letGo();
      return;
    }
    native.stop(this.#handle);
    await this.#gdb?.dispose();
    await Promise.allSettled(this.#pending);
    await this.#workers?.join(this.#started);
    if (this.#started) {
      await native.waitAsync(this.#handle);
    }
    const info = decodeStopInfo(native.getStopInfo(this.#handle));
    await this.modules.close(this.#handle);
    this.memory.close();
    this.#stats.close();
    await native.destroyAsync(this.#handle);
    await this.#devices.release();
    for (const pointer of this.#handlers) {
      native.unregisterHandler(pointer);
    }
    this.#handlers.clear();
    this.#events?.destroy();
    this.#console?.destroy();
    this.#resolveEnded(info);
  }

  async #letGo(): Promise<void> {
    await Promise.allSettled(this.#pending);
    this.memory.close();
    this.#stats.close();
    this.#events?.destroy();
    this.#console?.destroy();
    await native.destroyAsync(this.#handle);
    if (this.#started) {
      this.#devices.handOver();
    } else {
      await this.#devices.release();
    }
    this.#rejectEnded(new ClosedError("the machine was let go of, and goes on in its monitor"));
  }
}

/** Unpacking only saves time: where it cannot be done (LZMA, a full disk), the bzImage boots as it is. */
async function unpackForBoot(path: string): Promise<string> {
  try {
    return await unpackKernel(path);
  } catch (error) {
    if (error instanceof VmmError && (error.code === "E_UNSUPPORTED" || error.code === "E_IO")) {
      return path; // a kernel that cannot be read is reported by the load
    }
    throw error;
  }
}
