// SPDX-License-Identifier: Apache-2.0
/** The benchmark's device in TypeScript, for a vCPU's Worker (as a module) and for Machine.addDevice. */
import type { Device, DeviceContext } from "../../src/vmm/device.js";
import { DATA_PORT, MARK_PORT } from "./guest.js";

/** Times of the two marks in nanoseconds, shared between threads. */
export type Marks = SharedArrayBuffer;

export function newMarks(): Marks {
  return new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT);
}

/** The first mark's place is taken by the second's, the second's by now. */
export function mark(marks: Marks): void {
  const times = new BigInt64Array(marks);
  times[0] = times[1] ?? 0n;
  times[1] = process.hrtime.bigint();
}

/** Nanoseconds between the marks. */
export function elapsed(marks: Marks): number {
  const [start = 0n, stop = 0n] = new BigInt64Array(marks);
  return Number(stop - start);
}

export function devices(marks: Marks): Device[] {
  let latch: number | bigint = 0;
  return [
    {
      space: "pio",
      base: DATA_PORT,
      bytes: 1,
      read: () => latch,
      write: (_offset, value) => {
        latch = value;
      },
    },
    { space: "pio", base: MARK_PORT, bytes: 1, write: () => mark(marks) },
  ];
}

/** As a device module. */
export default (context: DeviceContext<Marks>): Device[] => devices(context.data);
