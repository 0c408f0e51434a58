// SPDX-License-Identifier: Apache-2.0
/** The adaptation modules of a machine: shared objects and TypeScript, loaded and removed while the guest runs. */
import { fileURLToPath, pathToFileURL } from "node:url";
import { ArgumentError, ClosedError } from "../errors.js";
import * as native from "../ffi/machine.js";
import * as ffi from "../ffi/modules.js";
import type { GuestMemory } from "./guest-memory.js";
import { type AdaptationModule, AttachedModule, checkModule, ModuleError } from "./module.js";

/** `failing`: not called any more, being unloaded; `failed`: unloaded, `text` says why. */
export type ModuleStateName = "starting" | "running" | "failing" | "failed" | "removing";

export interface ModuleInfo {
  readonly id: number;
  readonly name: string;
  readonly version: string;
  readonly state: ModuleStateName;
  /** Devices, hypercalls and hooks that are registered. */
  readonly parts: number;
  readonly deviceCalls: bigint;
  readonly hypercalls: bigint;
  readonly hookCalls: bigint;
  /** What it said last, or why it failed. */
  readonly text: string;
}

/** A module in place. */
export interface ModuleHandle {
  readonly id: number;
  readonly name: string;
  /** What it is doing now; undefined once it was removed. */
  info(): ModuleInfo | undefined;
  /** Take it out, also while the guest runs; one that failed is forgotten. Idempotent. */
  remove(): Promise<void>;
}

const STATES = Object.fromEntries(
  Object.entries(ffi.ModuleState).map(([name, value]) => [value, name.toLowerCase()]),
) as Readonly<Record<number, ModuleStateName>>;

/** What a machine lends to its modules. */
export interface ModuleOwner {
  readonly handle: () => native.MachineHandle;
  readonly cpus: number;
  readonly memory: GuestMemory;
  /** Calls in libvmmhpc that must be over before the machine goes. */
  readonly track: <T>(call: Promise<T>) => Promise<T>;
  readonly onFailed: (error: ModuleError) => void;
}

const isSharedObject = (path: string) => /\.so(\.\d+)*$/.test(path);

export class MachineModules {
  readonly #owner: ModuleOwner;
  /** Those in TypeScript, by id. */
  readonly #attached = new Map<number, AttachedModule>();

  constructor(owner: ModuleOwner) {
    this.#owner = owner;
  }

  /** In the order of loading, those that failed and were not removed included. */
  list(): ModuleInfo[] {
    return ffi.moduleList(this.#owner.handle()).map((info) => ({
      id: info.id,
      name: info.name,
      version: this.#attached.get(info.id)?.module.version ?? info.version,
      state: STATES[info.state] ?? "failed",
      parts: info.parts,
      deviceCalls: info.device_calls,
      hypercalls: info.hypercalls,
      hookCalls: info.hook_calls,
      text: info.text,
    }));
  }

  /** See `Machine.loadModule`. */
  async load(module: string | URL | AdaptationModule, args: string): Promise<ModuleHandle> {
    if (args.includes("\0")) {
      throw new ArgumentError("a module's arguments hold a NUL character");
    }
    if (typeof module !== "string" && !(module instanceof URL)) {
      return this.#attach(checkModule(module, "the object"), args);
    }
    const path =
      module instanceof URL && module.protocol === "file:" ? fileURLToPath(module) : String(module);
    if (path.includes("\0")) {
      throw new ArgumentError("a module's path holds a NUL character");
    }
    if (isSharedObject(path)) {
      const id = await this.#owner.track(ffi.moduleLoad(this.#owner.handle(), path, args));
      return this.#handle(id);
    }
    const url =
      module instanceof URL || /^(node|file|data):/.test(path) ? String(module) : pathToFileURL(path).href;
    return this.#attach(checkModule(await importDefault(url, path), path), args);
  }

  /** The machine's event: libvmmhpc has unloaded it. */
  onFailed(id: number): void {
    const attached = this.#attached.get(id);
    const info = this.#info(id);
    if (info === undefined) {
      return; // removed since
    }
    const error = attached?.error ?? new ModuleError(info.name, info.text);
    const released = attached?.release() ?? Promise.resolve();
    void released.catch(() => {}).then(() => this.#owner.onFailed(error)); // its own end may fail, too
  }

  onReset(): void {
    for (const attached of this.#attached.values()) {
      attached.reset();
    }
  }

  /** The guest has ended: end the modules in TypeScript; libvmmhpc ends its own with the machine. */
  async close(handle: native.MachineHandle): Promise<void> {
    for (const [id, attached] of this.#attached) {
      await ffi.moduleRemove(handle, id).catch(() => {});
      await attached.release().catch(() => {});
    }
    this.#attached.clear();
  }

  async #attach(module: AdaptationModule, args: string): Promise<ModuleHandle> {
    const { handle, memory, cpus, track } = this.#owner;
    const host = {
      memory: (gpa: number | bigint, bytes: number) => memory.bytes(gpa, bytes),
      setIrq: (gsi: number, level: boolean) => native.irqSet(handle(), gsi, level),
      stop: () => native.stop(handle()),
    };
    const attached = await AttachedModule.open(module, { handle, track, cpus, args, host });
    this.#attached.set(attached.id, attached);
    try {
      await attached.start();
    } catch (error) {
      this.#attached.delete(attached.id);
      throw error;
    }
    return this.#handle(attached.id, module.name);
  }

  #info(id: number): ModuleInfo | undefined {
    return this.list().find((module) => module.id === id);
  }

  #handle(id: number, name = this.#info(id)?.name ?? ""): ModuleHandle {
    let removed: Promise<void> | undefined;
    return {
      id,
      name,
      info: () => this.#info(id),
      remove: () => {
        removed ??= this.#remove(id).catch((error: unknown) => {
          if (!(error instanceof ClosedError)) throw error; // it went with the machine
        });
        return removed;
      },
    };
  }

  async #remove(id: number): Promise<void> {
    await this.#owner.track(ffi.moduleRemove(this.#owner.handle(), id));
    const attached = this.#attached.get(id);
    this.#attached.delete(id);
    await attached?.release();
  }
}

async function importDefault(url: string, path: string): Promise<unknown> {
  try {
    return ((await import(url)) as { default?: unknown }).default;
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new ArgumentError(`cannot import module ${path}: ${what}`, {
      cause,
      hint: "check the path; see its stack",
    });
  }
}
