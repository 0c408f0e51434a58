// SPDX-License-Identifier: Apache-2.0
/** KVM's own counters (KVM_GET_STATS_FD): self-describing, read with one pread per snapshot. */
import { closeSync, readSync } from "node:fs";
import { KvmStatsDesc, KvmStatsHeader } from "./structs.js";

/** A counter: one number, or the buckets of a histogram. */
export type StatValue = bigint | readonly bigint[];
/** Counters by name: `exits`, `io_exits`, `halt_exits`, `irq_exits`, `mmu_cache_miss` … */
export type KvmStats = Readonly<Record<string, StatValue>>;

/** What a stats descriptor says about itself. */
export interface StatDescription {
  readonly name: string;
  /** `StatsType.*`. */
  readonly type: number;
  /** Values: more than one for histograms. */
  readonly size: number;
  /** Width of a bucket of a linear histogram. */
  readonly bucketSize: number;
  /** Byte offset in the data block. */
  readonly offset: number;
}

function pread(fd: number, length: number, position: number): Buffer {
  const buffer = Buffer.alloc(length);
  const count = readSync(fd, buffer, 0, length, position);
  return buffer.subarray(0, count);
}

/** Parse the head of a stats file, whose layout does not change while it is open. */
export function describeStats(head: Uint8Array): {
  readonly descriptions: readonly StatDescription[];
  readonly dataOffset: number;
} {
  const header = KvmStatsHeader.decode(head);
  const stride = KvmStatsDesc.size + header.name_size;
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const descriptions = Array.from({ length: header.num_desc }, (_, i) => {
    const at = header.desc_offset + i * stride;
    const desc = KvmStatsDesc.decode(bytes, at);
    const name = bytes.toString("latin1", at + KvmStatsDesc.size, at + stride);
    const end = name.indexOf("\0");
    return {
      name: end < 0 ? name : name.slice(0, end),
      type: desc.flags & 0xf,
      size: desc.size,
      bucketSize: desc.bucket_size,
      offset: desc.offset,
    };
  });
  return { descriptions, dataOffset: header.data_offset };
}

/** Values out of the data block. */
export function parseStats(descriptions: readonly StatDescription[], data: Buffer): KvmStats {
  const value = (at: number) => (at + 8 <= data.length ? data.readBigUInt64LE(at) : 0n);
  return Object.fromEntries(
    descriptions.map(({ name, size, offset }) => [
      name,
      size === 1 ? value(offset) : Array.from({ length: size }, (_, i) => value(offset + 8 * i)),
    ]),
  );
}

/** Read all counters from a stats descriptor and close it. */
export function readStats(fd: number): KvmStats {
  try {
    const header = KvmStatsHeader.decode(pread(fd, KvmStatsHeader.size, 0));
    const stride = KvmStatsDesc.size + header.name_size;
    const head = pread(fd, header.desc_offset + header.num_desc * stride, 0);
    const { descriptions, dataOffset } = describeStats(head);
    const length = Math.max(0, ...descriptions.map(({ offset, size }) => offset + 8 * size));
    return parseStats(descriptions, pread(fd, length, dataOffset));
  } finally {
    closeSync(fd);
  }
}
