// SPDX-License-Identifier: Apache-2.0
/** What this process holds: descriptors, threads, memory. Tests compare it before and after. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let gc: (() => void) | undefined;

/** Collect garbage, also where Node was started without --expose-gc. */
export function collectGarbage(): void {
  if (gc === undefined) {
    setFlagsFromString("--expose-gc");
    gc = runInNewContext("gc") as () => void;
  }
  gc();
}

/** Collect garbage and let finalizers and closing sockets have their turns. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    collectGarbage();
    for (let turn = 0; turn < 5; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Open descriptors by what they are, numbers left out: `socket`, `anon_inode:kvm-vm`, `/dev/kvm` … */
export function descriptors(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const fd of readdirSync("/proc/self/fd")) {
    let target: string;
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`).replace(/:\[\d+\]$/, "");
    } catch {
      continue; // the directory's own descriptor
    }
    counts.set(target, (counts.get(target) ?? 0) + 1);
  }
  return counts;
}

/** Names of this process's threads, with how many there are of each. */
export function threads(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const task of readdirSync("/proc/self/task")) {
    try {
      const name = readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim();
      counts.set(name, (counts.get(name) ?? 0) + 1);
    } catch {
      // ended meanwhile
    }
  }
  return counts;
}

/** Bytes of memory that this process keeps resident. */
export function residentBytes(): number {
  const rss = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  return Number(rss) * 1024;
}

/** Memory mappings of this process. */
export function mappings(): number {
  return readFileSync("/proc/self/maps", "utf8").split("\n").length - 1;
}

export interface Holdings {
  readonly descriptors: Readonly<Record<string, number>>;
  readonly threads: Readonly<Record<string, number>>;
  readonly mappings: number;
  readonly resident: number;
}

/** After `settle()`: what is held now. */
export async function holdings(): Promise<Holdings> {
  await settle();
  const sorted = (counts: Map<string, number>) =>
    Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    descriptors: sorted(descriptors()),
    threads: sorted(threads()),
    mappings: mappings(),
    resident: residentBytes(),
  };
}
