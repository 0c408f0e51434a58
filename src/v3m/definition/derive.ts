// SPDX-License-Identifier: Apache-2.0
/** What a definition need not say: derived from the VM's UUID, so that it stays the same. */
import { createHash } from "node:crypto";
import { NAT_POOL, overlap, pooledRange } from "./address.js";
import type { NatRange } from "./types.js";

function digest(uuid: string, what: string): Buffer {
  return createHash("sha256").update(`${uuid}\0${what}`).digest();
}

/** In the range of addresses that are administered locally, under the prefix that QEMU and libvirt use. */
export function deriveMac(uuid: string, nic: string): string {
  const bytes = digest(uuid, `mac ${nic}`);
  return ["52", "54", "00", ...[0, 1, 2].map((i) => (bytes[i] ?? 0).toString(16).padStart(2, "0"))].join(":");
}

/** `v3m`, 10 hexadecimal digits, and the interface's number in the VM. */
export function deriveTap(uuid: string, nic: string, index: number): string {
  return `v3m${digest(uuid, `tap ${nic}`).toString("hex", 0, 5)}${index.toString(36)}`;
}

/** A range of the pool that none of `taken` overlaps. @returns undefined where all are taken */
export function deriveRange(uuid: string, nic: string, taken: readonly NatRange[]): NatRange | undefined {
  const first = digest(uuid, `nat ${nic}`).readUInt32BE();
  for (let i = 0; i < NAT_POOL.count; i++) {
    const range = pooledRange(first + i);
    if (!taken.some((other) => overlap(other, range))) return range;
  }
  return undefined;
}
