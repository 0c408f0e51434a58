// SPDX-License-Identifier: Apache-2.0
/** What a process has of its own in the mappings of a file. */
import { readFileSync } from "node:fs";

/**
 * Bytes in the mappings of a process whose path contains `name` that are copies of its own. Pages of the file that only one
 * process has mapped do not count, though smaps calls them private, too.
 */
export function privateBytes(pid: number, name: string): number {
  let counts = false;
  let bytes = 0;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) counts = line.includes(name);
    else if (counts && /^Anonymous:/.test(line)) bytes += Number(/\d+/.exec(line)?.[0]) * 1024;
  }
  return bytes;
}

/** The memory of clones, as processes have it mapped. */
export const CLONE_MEMORY = "memfd:v3m-memory";
