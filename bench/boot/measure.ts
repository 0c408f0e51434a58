// SPDX-License-Identifier: Apache-2.0
/** One boot: from exec of the monitor to the first line of the guest's user space. */
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import type { Contender } from "./contenders.js";
import { READY } from "./guest.js";
import { type KvmCounters, kvmCounters, type MemoryUse, memoryUse } from "./observe.js";

export interface Run {
  readonly seconds: number;
  readonly exits: KvmCounters | null;
  readonly memory: MemoryUse | null;
}

export interface MeasureOptions {
  readonly ramBytes: number;
  readonly timeoutMs: number;
}

const KEPT_ERRORS = 4000;
const launcher = () => join(packageRoot(), "native/build/release/bench-launch");

/**
 * native/tools/bench-launch.c starts the monitor, holds the clock, and stops it by a signal when the line is there;
 * then it is examined here and killed.
 */
export async function measure(contender: Contender, options: MeasureOptions): Promise<Run> {
  const child = spawn(launcher(), [READY, ...contender.command], { stdio: ["pipe", "pipe", "pipe"] });
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => resolve());
  });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString("latin1")).slice(-KEPT_ERRORS);
  });
  // Killing the launcher kills the monitor.
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs);
  try {
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString("latin1")));
      child.once("error", reject);
      child.once("close", (code, signal) => {
        const why = signal === null ? `ended (${code})` : `not ready after ${options.timeoutMs / 1000} s`;
        reject(new Error(`${contender.label}: ${why}\n${contender.command.join(" ")}\n${errors}`));
      });
    });
    const [pid = 0, nanoseconds = 0] = line.split(" ").map(Number);
    return {
      seconds: nanoseconds / 1e9,
      exits: kvmCounters(pid),
      memory: await memoryUse(pid, options.ramBytes),
    };
  } finally {
    clearTimeout(timer);
    child.stdin.end();
    await ended;
  }
}

/** Write to all free memory once, so that no contender pays for pages that a machine below has yet to provide. */
export function touchMemory(): void {
  spawnSync(launcher(), ["--touch"], { stdio: "inherit" });
}
