// SPDX-License-Identifier: Apache-2.0
/** The Worker of one vCPU: makes the devices of its modules, then runs the vCPU until the machine ends. */
import { parentPort, workerData } from "node:worker_threads";
import { V3mError } from "../errors.js";
import * as native from "../ffi/machine.js";
import {
  type Device,
  type DeviceContext,
  type DeviceError,
  type DeviceFactory,
  handlerOf,
  rangeOf,
} from "./device.js";
import { GuestMemory } from "./guest-memory.js";
import type { DeviceClaim, FromWorker, ToWorker, WorkerData } from "./vcpu-protocol.js";

const data = workerData as WorkerData;
const handle = data.handle as native.MachineHandle;
const send = (message: FromWorker) => parentPort?.postMessage(message);
const memory = new GuestMemory(handle, {});
const handlers: bigint[] = [];

function report(error: DeviceError): void {
  native.stop(handle);
  const { message, cause } = error;
  try {
    send({ type: "device-error", error: { message, cause } });
  } catch {
    send({ type: "device-error", error: { message, cause: String(cause) } }); // not cloneable
  }
}

function claim(device: Device): DeviceClaim {
  const range = rangeOf(device);
  const handler = native.registerHandler(handlerOf(device, report));
  handlers.push(handler);
  return { name: device.name, space: device.space, ...range, handler };
}

async function makeDevices(): Promise<DeviceClaim[]> {
  const claims: DeviceClaim[] = [];
  for (const { url, data: moduleData } of data.modules) {
    const factory = ((await import(url)) as { default?: unknown }).default;
    if (typeof factory !== "function") {
      throw new TypeError(`${url} has no default export that makes devices`);
    }
    const context: DeviceContext = {
      vcpu: data.vcpu,
      cpus: data.cpus,
      data: moduleData,
      setIrq: (gsi, level) => native.irqSet(handle, gsi, level),
      memory: (gpa, bytes) => memory.bytes(gpa, bytes),
      stop: () => native.stop(handle),
    };
    const made = await (factory as DeviceFactory)(context);
    claims.push(...(Array.isArray(made) ? (made as readonly Device[]) : [made as Device]).map(claim));
  }
  return claims;
}

function finish(): void {
  memory.close();
  handlers.splice(0).forEach(native.unregisterHandler); // only this vCPU called them
  send({ type: "ended" });
  parentPort?.close();
}

parentPort?.on("message", (message: ToWorker) => {
  if (message.type === "run") {
    native.vcpuRun(handle, data.vcpu); // blocks this thread; handlers are called from inside
  }
  finish();
});

makeDevices().then(
  (claims) => send({ type: "ready", claims }),
  (error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    send({ type: "failed", code: error instanceof V3mError ? error.code : "E_DEVICE", message });
  },
);
