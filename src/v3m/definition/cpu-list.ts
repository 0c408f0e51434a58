// SPDX-License-Identifier: Apache-2.0
/** Lists of CPUs as people write them: `2`, `2,3`, `0-3,8`, or a list of numbers. */

export const CPU_LIST_PATTERN = "^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$";

/** @param onBackwards is told of a range that ends before it begins */
export function parseCpuList(
  list: string | number | readonly number[],
  onBackwards: (range: string) => void,
): number[] {
  if (typeof list === "number") return [list];
  if (typeof list !== "string") return [...list];
  return list.split(",").flatMap((part) => {
    const [first = 0, last = first] = part.split("-").map(Number);
    if (last < first) onBackwards(part);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
  });
}
