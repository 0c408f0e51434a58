// SPDX-License-Identifier: Apache-2.0
/** Adaptation modules in TypeScript: what one is, and how libvmmhpc comes to call its functions. */
import { ArgumentError, V3mError } from "../errors.js";
import { ACCESS_READ, ACCESS_WRITE } from "../ffi/index.js";
import type * as native from "../ffi/machine.js";
import * as ffi from "../ffi/modules.js";
import { ExitReason } from "../kvm/constants.js";
import { type AccessValue, type Device, handlerOf, rangeOf, spaceOf } from "./device.js";
import { whole } from "./options.js";
import { exitName } from "./stats.js";

/** A guest's hypercall (docs/reference/modules.md). */
export interface Hypercall {
  readonly vcpu: number;
  readonly number: number;
  /** RDI, RSI, RCX, RBX, R8, R9. */
  readonly args: readonly bigint[];
}

/** What RAX becomes. Those from -4095 to -1 are errors by convention. */
export type HypercallFunction = (call: Hypercall) => AccessValue;

/** An exit from KVM_RUN that came to user space. */
export interface GuestExit {
  readonly vcpu: number;
  /** As in the statistics: `io`, `mmio`, `shutdown` … */
  readonly reason: string;
  /** Of an access (`io`, `mmio`): what it does, port or address, bytes and number of its elements. */
  readonly write: boolean;
  readonly address: bigint;
  readonly bytes: number;
  readonly count: number;
  /** What is written, where it is one element. */
  readonly value: bigint;
  /** KVM's suberror, hardware reason or event type, where there is one. */
  readonly detail: bigint;
}

/**
 * `pass` (or nothing): the next hook, at last the machine, handles it. `consume`: the guest goes on behind it.
 * `answer`: the same for a read, with what it reads. `stop`: the machine stops.
 */
export type ExitAction = "pass" | "consume" | "stop" | { readonly answer: AccessValue };
export type ExitHook = (exit: GuestExit) => ExitAction | undefined;

/** What a module can do to its machine. */
export interface ModuleHost {
  /** What the loader gave, "" for nothing. */
  readonly args: string;
  readonly cpus: number;
  /** Each resolves when the guest can come to it. Where one fails, the module is not loaded. */
  addDevice(device: Device): Promise<void>;
  /** @param number 0x100 to 0xffff */
  addHypercall(number: number, call: HypercallFunction): Promise<void>;
  /** @param reasons only these: `["io", "mmio"]`; without it all. Hooks are called in the order of adding. */
  addExitHook(hook: ExitHook, reasons?: readonly string[]): Promise<void>;
  /** Guest RAM [gpa, gpa + bytes) without a copy, valid until the machine ends. */
  memory(gpa: number | bigint, bytes: number): Uint8Array;
  /** Raise or lower an IOAPIC pin. */
  setIrq(gsi: number, level: boolean): void;
  /** Ask the machine to stop. */
  stop(): void;
  /** The module has failed, as if one of its functions had thrown. */
  fail(error: unknown): void;
}

/**
 * A module: an object, or what an ES module exports as its default. Its functions run in the thread that loaded it: each
 * call by the guest costs a switch to it (23–35 µs), and waits for its event loop. One that throws is taken out.
 */
export interface AdaptationModule {
  /** 1 to 31 printable ASCII characters without a blank. */
  readonly name: string;
  readonly version?: string;
  attach(host: ModuleHost): void | Promise<void>;
  /** The guest was reset (told after it). */
  reset?(): void;
  /** Called once, when nothing of it is called any more. */
  detach?(): void | Promise<void>;
}

/** A module failed and was taken out; the machine goes on. `cause` is what it threw, if it is in TypeScript. */
export class ModuleError extends V3mError {
  readonly module: string;

  constructor(module: string, message: string, cause?: unknown) {
    super("E_MODULE", `module ${module} failed: ${message}`, {
      cause,
      hint: "the machine goes on without it; mend the module, or do not load it",
    });
    this.module = module;
  }
}

const messageOf = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause));

/** What the owner of a module provides for it. */
export interface ModuleContext {
  /** The machine; throws once it was disposed. */
  readonly handle: () => native.MachineHandle;
  /** Keeps the machine until the call is over. */
  readonly track: <T>(call: Promise<T>) => Promise<T>;
  readonly cpus: number;
  readonly args: string;
  readonly host: Pick<ModuleHost, "memory" | "setIrq" | "stop">;
}

/** @throws ArgumentError where an export is no module */
export function checkModule(candidate: unknown, what: string): AdaptationModule {
  const module = candidate as Partial<AdaptationModule> | null | undefined;
  if (typeof module !== "object" || typeof module?.name !== "string" || typeof module.attach !== "function") {
    throw new ArgumentError(`${what} is not a module: it needs a name and attach()`, {
      hint: "export default { name: 'mine', attach(host) { … } }",
    });
  }
  return module as AdaptationModule;
}

function reasonMask(reasons: readonly string[] | undefined): bigint {
  let mask = 0n;
  for (const reason of reasons ?? []) {
    const number = Object.values(ExitReason).find((value) => exitName(value) === reason);
    if (number === undefined || number > 63) {
      throw new ArgumentError(`there is no exit reason ${reason}`, { hint: "such as io, mmio, shutdown" });
    }
    mask |= 1n << BigInt(number);
  }
  return mask;
}

/** A TypeScript module in a machine. */
export class AttachedModule {
  readonly module: AdaptationModule;
  readonly id: number;
  readonly #context: ModuleContext;
  readonly #callbacks: bigint[] = [];
  readonly #adding: Promise<void>[] = [];
  #error: ModuleError | undefined;
  #started = false;
  /** It said so itself, in attach(). */
  #gaveUp = false;
  #released: Promise<void> | undefined;

  private constructor(module: AdaptationModule, id: number, context: ModuleContext) {
    this.module = module;
    this.id = id;
    this.#context = context;
  }

  /** A module with nothing in it yet: `start` is to follow. @throws VmmError */
  static async open(module: AdaptationModule, context: ModuleContext): Promise<AttachedModule> {
    const id = await context.track(ffi.moduleOpen(context.handle(), module.name));
    return new AttachedModule(module, id, context);
  }

  /**
   * Let it add its parts. That a guest made one of them fail meanwhile is not an error of this.
   * @throws VmmError, ArgumentError, or what attach() threw; nothing is left then.
   */
  async start(): Promise<void> {
    try {
      await this.module.attach(this.#host());
      await Promise.all(this.#adding);
      if (this.#gaveUp) {
        throw this.#error;
      }
      this.#started = true;
    } catch (error) {
      await Promise.allSettled(this.#adding);
      await this.remove().catch(() => {}); // the machine may be gone, and the module with it
      await this.release();
      throw error;
    }
  }

  /** Why it failed, if it did. */
  get error(): ModuleError | undefined {
    return this.#error;
  }

  /** Take it out of the machine; `release` is to follow. */
  async remove(): Promise<void> {
    await this.#context.track(ffi.moduleRemove(this.#context.handle(), this.id));
  }

  reset(): void {
    try {
      this.module.reset?.();
    } catch (cause) {
      this.#fail(cause);
    }
  }

  /** It is not called any more: give its callbacks back, tell it. */
  release(): Promise<void> {
    this.#released ??= this.#release();
    return this.#released;
  }

  async #release(): Promise<void> {
    await Promise.allSettled(this.#adding);
    this.#callbacks.splice(0).forEach(ffi.unregisterCallback);
    await this.module.detach?.();
  }

  #fail(cause: unknown): void {
    this.#error ??= new ModuleError(this.module.name, messageOf(cause), cause);
    const text = messageOf(cause).slice(0, 180).replaceAll("\0", " ");
    try {
      ffi.moduleFail(this.#context.handle(), this.id, text);
    } catch {
      // The machine is being disposed of, and the module with it.
    }
  }

  #host(): ModuleHost {
    const { args, cpus, host } = this.#context;
    return {
      ...host,
      args,
      cpus,
      addDevice: (device) => this.#add(() => this.#addDevice(device)),
      addHypercall: (number, call) => this.#add(() => this.#addHypercall(number, call)),
      addExitHook: (hook, reasons) => this.#add(() => this.#addExitHook(hook, reasons)),
      fail: (error) => {
        this.#gaveUp = !this.#started;
        this.#fail(error);
      },
    };
  }

  /** Whoever does not wait for it hears of its failure nevertheless, from the load. */
  #add(start: () => Promise<void>): Promise<void> {
    const added = this.#context.track((async () => start())());
    added.catch(() => {});
    this.#adding.push(added);
    return added;
  }

  #callback(bytes: number, call: (view: DataView) => number): bigint {
    const pointer = ffi.registerCallback(bytes, (view) => {
      try {
        return this.#error === undefined ? call(view) : ffi.CALLBACK_FAILED;
      } catch (cause) {
        this.#fail(cause);
        return ffi.CALLBACK_FAILED;
      }
    });
    this.#callbacks.push(pointer);
    return pointer;
  }

  #addDevice(device: Device): Promise<void> {
    const { base, bytes } = rangeOf(device);
    const handler = handlerOf(device, (error) => {
      throw error;
    });
    const pointer = this.#callback(ffi.VmmhpcModuleAccess.size, (view) => {
      const access = ffi.VmmhpcModuleAccess.read(view, 0);
      const value = access.value > Number.MAX_SAFE_INTEGER ? access.value : Number(access.value);
      const result = handler(null, access.vcpu, access.offset, access.bytes, access.direction, value);
      if (access.direction === ACCESS_READ) {
        ffi.VmmhpcModuleAccess.write(view, 0, { value: BigInt(result) });
      }
      return 0;
    });
    return ffi.moduleAddDevice(this.#context.handle(), this.id, spaceOf(device), base, bytes, pointer);
  }

  #addHypercall(number: number, call: HypercallFunction): Promise<void> {
    whole(number, "a hypercall's number", ffi.HYPERCALL_FIRST, ffi.HYPERCALL_LAST);
    const pointer = this.#callback(ffi.VmmhpcModuleCall.size, (view) => {
      const { vcpu, args } = ffi.VmmhpcModuleCall.read(view, 0);
      const result = BigInt.asUintN(64, BigInt(call({ vcpu, number, args })));
      ffi.VmmhpcModuleCall.write(view, 0, { result });
      return 0;
    });
    return ffi.moduleAddHypercall(this.#context.handle(), this.id, number, pointer);
  }

  #addExitHook(hook: ExitHook, reasons: readonly string[] | undefined): Promise<void> {
    const mask = reasonMask(reasons);
    const pointer = this.#callback(ffi.VmmhpcModuleExit.size, (view) => {
      const exit = ffi.VmmhpcModuleExit.read(view, 0);
      const action = hook({
        vcpu: exit.vcpu,
        reason: exitName(exit.reason),
        write: exit.count > 0 && exit.direction === ACCESS_WRITE,
        address: exit.address,
        bytes: exit.bytes,
        count: exit.count,
        value: exit.value,
        detail: exit.detail,
      });
      return actionCode(action, view);
    });
    return ffi.moduleAddExitHook(this.#context.handle(), this.id, mask, pointer);
  }
}

function actionCode(action: ExitAction | undefined, view: DataView): number {
  if (typeof action === "object") {
    const value = BigInt.asUintN(64, BigInt(action.answer));
    ffi.VmmhpcModuleExit.write(view, 0, { value });
    return ffi.HookAction.CONSUME;
  }
  switch (action) {
    case undefined:
    case "pass":
      return ffi.HookAction.PASS;
    case "consume":
      return ffi.HookAction.CONSUME;
    case "stop":
      return ffi.HookAction.STOP;
    default:
      throw new ArgumentError(`an exit hook gave ${String(action)}`, {
        hint: "pass, consume, stop or { answer }",
      });
  }
}
