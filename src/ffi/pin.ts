// SPDX-License-Identifier: Apache-2.0
/** Addresses of JavaScript buffers inside structures: the collector does not see those as references. */
import koffi from "koffi";

let pinned: unknown;

/** Call `use` with the address of `memory`, which stays alive (buffers do not move) until it returns. */
export function withAddress<T>(memory: ArrayBufferView, use: (address: bigint) => T): T {
  try {
    return use(koffi.address(memory));
  } finally {
    pinned = memory;
    pinned = undefined;
  }
}

/** @internal Makes the store above observable. */
export const lastPinned = (): unknown => pinned;
