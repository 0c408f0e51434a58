// SPDX-License-Identifier: Apache-2.0
/** Short names that differ. `node:crypto` would do it too, and costs a `v2m list` a tenth of its time to load. */

let count = 0;

/** Not used before by any process of this host, nor by this one. */
export function uniqueSuffix(): string {
  return `${process.pid.toString(36)}-${process.hrtime.bigint().toString(36)}-${count++}`;
}

/** FNV-1a, 32 bits, as 8 hexadecimal digits: tells apart what somebody chose in good faith. */
export function shortHash(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return hash.toString(16).padStart(8, "0");
}
