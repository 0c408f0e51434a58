// SPDX-License-Identifier: Apache-2.0
/** What a process has of its own in the mappings of a file. */
import { readFileSync } from "node:fs";

/** Bytes that are private to a process in its mappings whose path contains `name`. */
export function privateBytes(pid: number, name: string): number {
  let counts = false;
  let bytes = 0;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) counts = line.includes(name);
    else if (counts && /^Private_(Clean|Dirty):/.test(line)) bytes += Number(/\d+/.exec(line)?.[0]) * 1024;
  }
  return bytes;
}

/** The memory of clones, as processes have it mapped. */
export const CLONE_MEMORY = "memfd:v3m-memory";
