// SPDX-License-Identifier: Apache-2.0
/** struct kvm_cpuid2: a count, then entries. */
import { KvmError } from "../errors.js";
import { viewOf } from "../ffi/struct.js";
import { type CpuidEntry, KvmCpuidEntry2 } from "./structs.js";

const HEAD = 8;

/** A buffer with room for `capacity` entries, ready to be filled by KVM. */
export function cpuidBuffer(capacity: number): Uint8Array {
  const buffer = new Uint8Array(HEAD + capacity * KvmCpuidEntry2.size);
  viewOf(buffer).setUint32(0, capacity, true);
  return buffer;
}

export function encodeCpuid(entries: readonly Partial<CpuidEntry>[]): Uint8Array {
  const buffer = cpuidBuffer(entries.length);
  entries.forEach((entry, i) => {
    KvmCpuidEntry2.write(viewOf(buffer), HEAD + i * KvmCpuidEntry2.size, entry);
  });
  return buffer;
}

export function decodeCpuid(buffer: Uint8Array): CpuidEntry[] {
  const count = viewOf(buffer).getUint32(0, true);
  return Array.from({ length: count }, (_, i) =>
    KvmCpuidEntry2.decode(buffer, HEAD + i * KvmCpuidEntry2.size),
  );
}

/** Call `fill` with larger and larger buffers until KVM no longer answers E2BIG. */
export function readCpuid<T>(fill: (buffer: Uint8Array) => void, decode: (buffer: Uint8Array) => T): T {
  for (let capacity = 128; ; capacity *= 2) {
    const buffer = cpuidBuffer(capacity);
    try {
      fill(buffer);
      return decode(buffer);
    } catch (error) {
      if (!(error instanceof KvmError && error.errno === "E2BIG" && capacity < 4096)) {
        throw error;
      }
    }
  }
}
