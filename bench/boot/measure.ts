// SPDX-License-Identifier: Apache-2.0
/** One boot: from the start of the monitor's process to the first line of the guest's user space. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Contender } from "./contenders.js";
import { READY } from "./guest.js";
import { type KvmCounters, kvmCounters, type MemoryUse, memoryUse } from "./observe.js";

export interface Run {
  readonly seconds: number;
  readonly exits: KvmCounters | null;
  readonly memory: MemoryUse | null;
}

const KEPT_OUTPUT = 4000;

/** Resolves when the line has come; @throws if the process ends or the time is over before. */
function ready(child: ChildProcess, name: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = "";
    const fail = (why: string) => {
      clearTimeout(timer);
      reject(new Error(`${name}: ${why}; its output: ${output.slice(-KEPT_OUTPUT)}`));
    };
    const timer = setTimeout(() => fail(`not ready after ${timeoutMs / 1000} s`), timeoutMs);
    child.stderr?.on("data", (chunk: Buffer) => {
      output += chunk.toString("latin1");
    });
    child.stdout?.on("data", (chunk: Buffer) => {
      output += chunk.toString("latin1");
      if (output.includes(READY)) {
        clearTimeout(timer);
        resolve();
      }
    });
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code, signal) => fail(`ended with ${signal ?? code}`));
  });
}

/** Every thread has stopped: nothing is counted any more. */
async function untilStopped(pid: number): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    const state = /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
    if (state === "T") return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

export interface MeasureOptions {
  readonly ramBytes: number;
  readonly timeoutMs: number;
  /** Called when the guest is ready, before anything is read or killed. */
  readonly onReady?: () => void;
}

/**
 * The clock starts before fork and exec, which are part of every contender's time alike. When the line is there, the
 * monitor is stopped by a signal, so that what the guest does afterwards is not counted, then examined and killed.
 */
export async function measure(contender: Contender, options: MeasureOptions): Promise<Run> {
  const [program = "", ...args] = contender.command;
  const start = process.hrtime.bigint();
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => {
    child.once("exit", resolve);
    child.once("error", resolve);
  });
  try {
    await ready(child, contender.label, options.timeoutMs);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const pid = child.pid ?? 0;
    child.kill("SIGSTOP");
    options.onReady?.();
    await untilStopped(pid);
    return { seconds, exits: kvmCounters(pid), memory: await memoryUse(pid, options.ramBytes) };
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

/** Milliseconds of the cheapest program: what starting a process costs here, in every contender's time. */
export async function spawnFloor(): Promise<number> {
  const start = process.hrtime.bigint();
  const child = spawn("/bin/true", { stdio: ["ignore", "pipe", "pipe"] });
  await new Promise((resolve, reject) => {
    child.once("exit", resolve);
    child.once("error", reject);
  });
  return Number(process.hrtime.bigint() - start) / 1e6;
}
