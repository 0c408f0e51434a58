// SPDX-License-Identifier: Apache-2.0
/** The order in which people count: `node2` stands before `node10`. (Intl has it too, and takes long to load.) */

const PARTS = /(\d+)/;

export function compareNames(a: string, b: string): number {
  const [left, right] = [a.split(PARTS), b.split(PARTS)];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [x = "", y = ""] = [left[i], right[i]];
    const numbers = i % 2 === 1 ? Number(x) - Number(y) : 0;
    if (numbers !== 0) return numbers;
    if (x !== y) return x < y ? -1 : 1;
  }
  return left.length - right.length;
}
