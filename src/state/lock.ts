// SPDX-License-Identifier: Apache-2.0
/** Locks between commands: files with flock(2), so that a killed command gives its own back. */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AbortedError, LockedError } from "./errors.js";
import { storeError } from "./files.js";

export interface LockOptions {
  /** What is locked, for people: `VM node1`. */
  readonly what: string;
  /** How long to wait for another command, milliseconds. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
}

const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 100;

/** This command, for those who wait for it. */
function ownName(): string {
  const [, script = "node", ...rest] = process.argv;
  return [basename(script).replace(/^main\.js$/, "v2m"), ...rest].join(" ").slice(0, 80);
}

/** `v2m stop node1 (process 1234, since 12:00:00)`; undefined where the file does not tell. */
function holder(path: string): string | undefined {
  try {
    const { pid, command, since } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    return `${command} (process ${pid}, since ${new Date(String(since)).toLocaleTimeString("sv")})`;
  } catch {
    return undefined;
  }
}

/** A lock that is held until it is disposed of, or its process ends. */
export class Lock implements Disposable {
  readonly #path: string;
  #fd: number;

  private constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
  }

  /** The lock if nobody has it now. Its directory must be there. @throws StoreError */
  static async tryTake(path: string): Promise<Lock | undefined> {
    const { tryLock } = await import("../ffi/flock.js");
    for (;;) {
      let fd: number;
      try {
        fd = openSync(path, "a+", 0o600);
      } catch (error) {
        throw storeError(error, `cannot open ${path}`);
      }
      let taken = false;
      try {
        if (!tryLock(fd)) return undefined;
        // Whoever had it may have removed the file while we opened it.
        if (statSync(path, { throwIfNoEntry: false })?.ino !== fstatSync(fd).ino) continue;
        taken = true;
      } finally {
        if (!taken) closeSync(fd);
      }
      const lock = new Lock(path, fd);
      lock.#sign();
      return lock;
    }
  }

  /** @throws LockedError that names the holder when the wait is over, AbortedError, StoreError */
  static async take(path: string, options: LockOptions): Promise<Lock> {
    const end = performance.now() + options.waitMs;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      const lock = await Lock.tryTake(path);
      if (lock !== undefined) return lock;
      const left = end - performance.now();
      if (left <= 0) throw new LockedError(options.what, holder(path));
      try {
        await sleep(Math.min(pause, left), undefined, { signal: options.signal });
      } catch (error) {
        throw new AbortedError(`waiting for ${options.what}`, error);
      }
    }
  }

  /** Who holds it; only for messages, so a full disk does not matter. */
  #sign(): void {
    try {
      ftruncateSync(this.#fd);
      writeSync(this.#fd, JSON.stringify({ pid: process.pid, command: ownName(), since: new Date() }));
    } catch {
      // Then those who wait are not told.
    }
  }

  /** Remove the file as well: what it locked is gone. */
  remove(): void {
    if (this.#fd >= 0) unlinkSync(this.#path);
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) {
      closeSync(this.#fd);
      this.#fd = -1;
    }
  }
}
