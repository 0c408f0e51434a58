// SPDX-License-Identifier: Apache-2.0
/** What passes between a Machine and the Workers that run its vCPUs. */
import type { DeviceError } from "./device.js";

export interface WorkerData {
  /** struct vmmhpc *, valid until the Worker has said `ended`. */
  readonly handle: bigint;
  readonly vcpu: number;
  readonly cpus: number;
  readonly modules: readonly { readonly url: string; readonly data: unknown }[];
}

/** A device as a Worker made it: where it is, and the address of this Worker's handler. */
export interface DeviceClaim {
  readonly name: string | undefined;
  readonly space: "pio" | "mmio";
  readonly base: bigint;
  readonly bytes: bigint;
  readonly handler: bigint;
}

export type FromWorker =
  | { readonly type: "ready"; readonly claims: readonly DeviceClaim[] }
  | { readonly type: "device-error"; readonly error: Pick<DeviceError, "message" | "cause"> }
  | { readonly type: "failed"; readonly code: string; readonly message: string }
  | { readonly type: "ended" };

/** `run`: devices are in place, go; `quit`: end without running. */
export type ToWorker = { readonly type: "run" } | { readonly type: "quit" };
