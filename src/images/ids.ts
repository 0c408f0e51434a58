// SPDX-License-Identifier: Apache-2.0
/** Ids that are the same whenever the same is made. */
import { createHash } from "node:crypto";

/** A UUID (version 4 by its form) that goes by a text. */
export function uuidOf(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  const [a, b, c, d, e] = [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(13, 16),
    hex.slice(17, 20),
    hex.slice(20, 32),
  ];
  return `${a}-${b}-4${c}-8${d}-${e}`;
}
