// SPDX-License-Identifier: Apache-2.0
/** Device models in TypeScript: what one is, and how libvmmhpc comes to call it. */
import { ArgumentError, V3mError } from "../errors.js";
import { ACCESS_WRITE, Space } from "../ffi/index.js";
import type { NativeHandler } from "../ffi/machine.js";
import { whole } from "./options.js";

/** A number where it fits, a bigint for eight-byte values beyond 2^53. */
export type AccessValue = number | bigint;

/**
 * A device: a range of ports or of guest-physical memory, and what happens there. Handlers are called
 * synchronously, with the vCPU stopped; offsets count from `base`. A missing `read` reads as all ones, a
 * missing `write` is ignored. A handler that throws stops the machine, which then reports the error.
 */
export interface Device {
  readonly name?: string;
  readonly space: "pio" | "mmio";
  readonly base: number | bigint;
  /** Length of the range. */
  readonly bytes: number | bigint;
  /** @param bytes 1, 2, 4 or 8. */
  read?(offset: number, bytes: number, vcpu: number): AccessValue;
  write?(offset: number, value: AccessValue, bytes: number, vcpu: number): void;
}

/** What a device module's factory is told. */
export interface DeviceContext<Data = unknown> {
  /** The vCPU that this Worker runs. */
  readonly vcpu: number;
  readonly cpus: number;
  /** `DeviceModule.data`, structured-cloned: put a SharedArrayBuffer in it to share state among vCPUs. */
  readonly data: Data;
  /** Raise or lower an IOAPIC pin. */
  setIrq(gsi: number, level: boolean): void;
  /** Guest RAM [gpa, gpa + bytes) without a copy, valid until the machine ends. */
  memory(gpa: number | bigint, bytes: number): Uint8Array;
  /** Ask the machine to stop. */
  stop(): void;
}

/** A module whose default export makes devices. Every vCPU's Worker imports it and calls the factory. */
export interface DeviceModule {
  readonly module: string | URL;
  readonly data?: unknown;
}

export type DeviceFactory<Data = unknown> = (
  context: DeviceContext<Data>,
) => Device | readonly Device[] | Promise<Device | readonly Device[]>;

/** A device handler threw. The machine was stopped; `cause` is what it threw. */
export class DeviceError extends V3mError {}

export function spaceOf(device: Pick<Device, "space">): Space {
  if (device.space !== "pio" && device.space !== "mmio") {
    throw new ArgumentError(`a device is in space "pio" or "mmio", not ${String(device.space)}`);
  }
  return device.space === "pio" ? Space.PIO : Space.MMIO;
}

/** The range that a device claims. @throws ArgumentError */
export function rangeOf(device: Pick<Device, "base" | "bytes">): { base: bigint; bytes: bigint } {
  return { base: whole(device.base, "a device's base"), bytes: whole(device.bytes, "a device's length", 1) };
}

/** Values cross the FFI as unsigned: -1 and 0xff both mean all ones of a byte. @throws for what is no number */
function unsigned(value: AccessValue): AccessValue {
  if (typeof value === "bigint") {
    return BigInt.asUintN(64, value);
  }
  return Number.isSafeInteger(value) && value >= 0 ? value : BigInt.asUintN(64, BigInt(Math.trunc(value)));
}

/** The handler for libvmmhpc; `failed` is called with what the device threw, and the guest reads all ones. */
export function handlerOf(device: Device, failed: (error: DeviceError) => void): NativeHandler {
  const name = device.name ?? `${device.space} device at 0x${device.base.toString(16)}`;
  const read = device.read?.bind(device);
  const write = device.write?.bind(device);
  return (_opaque, vcpu, offset, bytes, direction, value) => {
    try {
      if (direction === ACCESS_WRITE) {
        write?.(Number(offset), value, bytes, vcpu);
        return 0;
      }
      return read === undefined ? 0xffff_ffff_ffff_ffffn : unsigned(read(Number(offset), bytes, vcpu));
    } catch (cause) {
      const what = cause instanceof Error ? cause.message : String(cause);
      failed(new DeviceError("E_DEVICE", `${name} failed: ${what}`, { cause }));
      return 0xffff_ffff_ffff_ffffn;
    }
  };
}
