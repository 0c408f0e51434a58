// SPDX-License-Identifier: Apache-2.0
/** What went through a tap device. */
import { readFile } from "node:fs/promises";

export interface TapCounters {
  /** By the guest: what the host sent into the tap. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/** As the guest sees it; undefined where there is no such device. */
export async function tapCounters(name: string): Promise<TapCounters | undefined> {
  const directory = `/sys/class/net/${name}/statistics`;
  const read = async (counter: string) => Number(await readFile(`${directory}/${counter}`, "latin1"));
  try {
    return { receivedBytes: await read("tx_bytes"), sentBytes: await read("rx_bytes") };
  } catch {
    return undefined;
  }
}
