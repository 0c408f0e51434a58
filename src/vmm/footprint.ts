// SPDX-License-Identifier: Apache-2.0
/** Memory of this process beside guest RAM. */
import { readFile } from "node:fs/promises";

export interface Footprint {
  /** Proportional share of all mappings but guest RAM, bytes. */
  readonly pss: number;
  /** Private anonymous part of it, bytes. */
  readonly anonymous: number;
}

/** @param ranges host addresses [from, to) of guest RAM, which do not count. */
export async function footprint(
  ranges: readonly { readonly from: bigint; readonly to: bigint }[],
  smaps = "/proc/self/smaps",
): Promise<Footprint> {
  let pss = 0;
  let anonymous = 0;
  let counts = false;
  for (const line of (await readFile(smaps, "utf8")).split("\n")) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (head !== null) {
      const from = BigInt(`0x${head[1]}`);
      const to = BigInt(`0x${head[2]}`);
      counts = !ranges.some((range) => from < range.to && to > range.from);
    } else if (counts && line.startsWith("Pss:")) {
      pss += Number(/\d+/.exec(line)?.[0]) * 1024;
    } else if (counts && line.startsWith("Anonymous:")) {
      anonymous += Number(/\d+/.exec(line)?.[0]) * 1024;
    }
  }
  return { pss, anonymous };
}
