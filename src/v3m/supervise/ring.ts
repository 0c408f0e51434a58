// SPDX-License-Identifier: Apache-2.0
/** Reads the file in which v3m-supervise keeps the last bytes of a channel (native/supervise/ring.h). */
import { open } from "node:fs/promises";

const MAGIC = "v3mring1";
const HEADER = 64;
/** While it is written: how often to begin again. */
const TRIES = 8;

export interface RingContent {
  readonly data: Buffer;
  /** Bytes that came before `data` and are not kept any more. */
  readonly dropped: number;
}

/** What the ring holds now; undefined where there is none. */
export async function readRing(path: string): Promise<RingContent | undefined> {
  const file = await open(path, "r").catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const header = Buffer.alloc(HEADER);
    const readHeader = async () => {
      const { bytesRead } = await file.read(header, 0, HEADER, 0);
      const valid = bytesRead === HEADER && header.toString("latin1", 0, 8) === MAGIC;
      return valid
        ? { size: Number(header.readBigUInt64LE(8)), total: Number(header.readBigUInt64LE(16)) }
        : undefined;
    };
    for (let i = 0; ; i++) {
      const before = await readHeader();
      if (before === undefined || before.size <= 0) return undefined;
      const { size, total } = before;
      const kept = Math.min(size, total);
      const data = Buffer.alloc(kept);
      const at = (total - kept) % size;
      const first = Math.min(kept, size - at);
      await file.read(data, 0, first, HEADER + at);
      await file.read(data, first, kept - first, HEADER);
      const after = (await readHeader()) ?? before;
      const late = Math.max(0, after.total - size - (total - kept)); // overwritten meanwhile
      if (late < kept || kept === 0 || i === TRIES) {
        return { data: data.subarray(Math.min(late, kept)), dropped: total - kept + late };
      }
    }
  } finally {
    await file.close();
  }
}
