// SPDX-License-Identifier: Apache-2.0
/** Many things at once, but not too many. */
import { availableParallelism } from "node:os";

/** How many VMs are worked on at once where nobody says: what a start needs is mostly waiting. */
export function defaultParallelism(): number {
  return Math.max(4, Math.min(32, 2 * availableParallelism()));
}

export type Settled<T> = { readonly value: T } | { readonly error: unknown };

/** Apply `work` to every item, at most `limit` at once. @returns what became of each, in the order of the items */
export async function mapBounded<Item, T>(
  items: readonly Item[],
  limit: number,
  work: (item: Item, index: number) => Promise<T>,
): Promise<Settled<T>[]> {
  const results: Settled<T>[] = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      try {
        results[index] = { value: await work(items[index] as Item, index) };
      } catch (error) {
        results[index] = { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Math.min(limit, items.length)) }, worker));
  return results;
}
