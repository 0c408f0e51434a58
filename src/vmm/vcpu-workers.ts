// SPDX-License-Identifier: Apache-2.0
/** The Workers that run a machine's vCPUs and hold its TypeScript devices. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { LibraryError } from "../errors.js";
import { packageRoot } from "../ffi/index.js";
import * as native from "../ffi/machine.js";
import { DeviceError, type DeviceModule, spaceOf } from "./device.js";
import type { DeviceClaim, FromWorker, ToWorker, WorkerData } from "./vcpu-protocol.js";

/** Workers run compiled code, also when the rest is run from source by a test runner. */
function workerFile(): string {
  const file = join(packageRoot(), "dist/src/vmm/vcpu-worker.js");
  if (!existsSync(file)) {
    throw new LibraryError("E_NO_LIBRARY", `${file} is not built`, { hint: "make build" });
  }
  return file;
}

function moduleUrl(module: string | URL): string {
  return module instanceof URL || /^[a-z]+:/.test(module) ? String(module) : pathToFileURL(module).href;
}

/** A Worker in KVM_RUN cannot be terminated, and Node waits for Workers when the process exits. */
const running = new Set<native.MachineHandle>();
let watching = false;

function stopAtExit(handle: native.MachineHandle): void {
  running.add(handle);
  if (!watching) {
    watching = true;
    process.on("exit", () => running.forEach(native.stop));
  }
}

function differ(): DeviceError {
  return new DeviceError("E_DEVICE", "a device module made different devices for different vCPUs", {
    hint: "the factory must give every vCPU the same ranges",
  });
}

interface VcpuWorker {
  readonly worker: Worker;
  readonly ready: Promise<readonly DeviceClaim[]>;
  readonly exited: Promise<void>;
}

export class VcpuWorkers {
  readonly #handle: native.MachineHandle;
  readonly #workers: readonly VcpuWorker[];

  /** @param onDeviceError called when a handler has thrown; the machine is being stopped already. */
  constructor(
    handle: native.MachineHandle,
    cpus: number,
    modules: readonly DeviceModule[],
    onDeviceError: (error: DeviceError) => void,
  ) {
    this.#handle = handle;
    const file = workerFile();
    const urls = modules.map(({ module, data }) => ({ url: moduleUrl(module), data }));
    this.#workers = Array.from({ length: cpus }, (_, vcpu) => {
      const workerData: WorkerData = { handle, vcpu, cpus, modules: urls };
      const worker = new Worker(file, { workerData, name: `vcpu${vcpu}` });
      const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
      const ready = new Promise<readonly DeviceClaim[]>((resolve, reject) => {
        worker.on("message", (message: FromWorker) => {
          if (message.type === "ready") {
            resolve(message.claims);
          } else if (message.type === "failed") {
            reject(new DeviceError(message.code, `a device module failed: ${message.message}`));
          } else if (message.type === "device-error") {
            onDeviceError(new DeviceError("E_DEVICE", message.error.message, { cause: message.error.cause }));
          }
        });
        worker.once("error", (cause) => {
          native.stop(handle);
          const error = new DeviceError("E_DEVICE", `the Worker of vCPU ${vcpu} failed: ${String(cause)}`, {
            cause,
          });
          onDeviceError(error);
          reject(error);
        });
        worker.once("exit", () => {
          reject(
            new DeviceError("E_DEVICE", `the Worker of vCPU ${vcpu} ended before its devices were ready`),
          );
        });
      });
      ready.catch(() => {}); // reported by `attach`
      return { worker, ready, exited };
    });
  }

  /** Wait for all modules, then claim each device's range with the handlers of all vCPUs. */
  async attach(): Promise<void> {
    const claims = await Promise.all(this.#workers.map(({ ready }) => ready));
    const first = claims[0] ?? [];
    if (claims.some((of) => of.length !== first.length)) {
      throw differ();
    }
    first.forEach((claim, index) => {
      const same = claims.map((of) => of[index]);
      if (same.some((c) => c?.base !== claim.base || c.bytes !== claim.bytes || c.space !== claim.space)) {
        throw differ();
      }
      const handlers = same.map((c) => c?.handler ?? 0n);
      native.deviceAddEach(this.#handle, spaceOf(claim), claim.base, claim.bytes, handlers);
    });
  }

  run(): void {
    stopAtExit(this.#handle);
    this.#post({ type: "run" });
  }

  /** Wait until all have left the machine. It must be stopping, or never have been started. */
  async join(started: boolean): Promise<void> {
    if (!started) {
      this.#post({ type: "quit" });
    }
    await Promise.all(this.#workers.map(({ exited }) => exited));
    running.delete(this.#handle);
  }

  #post(message: ToWorker): void {
    for (const { worker } of this.#workers) {
      worker.postMessage(message);
    }
  }
}
