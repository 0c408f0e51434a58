// SPDX-License-Identifier: Apache-2.0
/**
 * Real gdb, driven by a script: commands go to its standard input, what each one said comes back.
 *
 *     await using gdb = await Gdb.start();
 *     await gdb.run(server.command);
 *     expect(await gdb.run("info threads")).toContain("Thread 2");
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { minimalGdbPath } from "../../harness/minimal-gdb.js";

/** Against hangs only: emulated machines are slow. */
const HANG_MS = 240_000;

/** The installed one, else the one that was fetched for the Intel machine. */
function gdbProgram(): string | undefined {
  if (spawnSync("gdb", ["--version"], { stdio: "ignore" }).status === 0) return "gdb";
  return existsSync(minimalGdbPath()) ? minimalGdbPath() : undefined;
}

/** Why there is no gdb here, or undefined. */
export function gdbMissing(): string | undefined {
  return gdbProgram() === undefined ? "gdb is not installed: apt install gdb" : undefined;
}

export class Gdb implements AsyncDisposable {
  readonly child: ChildProcess;
  /** All that it said. */
  text = "";
  #count = 0;
  #over = false;
  #changed: () => void = () => {};

  private constructor(args: readonly string[]) {
    // One pipe for both: what a command says comes before the mark behind it.
    this.child = spawn("sh", ["-c", 'exec "$0" -nx -q "$@" 2>&1', gdbProgram() ?? "gdb", ...args], {
      stdio: ["pipe", "pipe", "ignore"],
      env: { ...process.env, LC_ALL: "C", DEBUGINFOD_URLS: "" },
    });
    this.child.stdout?.on("data", (chunk: Buffer) => {
      this.text += chunk.toString("latin1");
      this.#changed();
    });
    this.child.stdin?.on("error", () => {});
    this.child.on("close", () => {
      this.#over = true;
      this.#changed();
    });
  }

  /** @param args for gdb: a file with symbols */
  static async start(...args: readonly string[]): Promise<Gdb> {
    const gdb = new Gdb(args);
    for (const setting of ["pagination off", "confirm off", "width 0", "prompt", "remotetimeout 120"]) {
      await gdb.run(`set ${setting}`);
    }
    return gdb;
  }

  /** Give a command, without waiting for it; `said` does. */
  give(command: string): void {
    this.#count += 1;
    this.child.stdin?.write(`${command}\necho \\nDONE-${this.#count}-\\n\n`);
  }

  /** What the last command said, once it is done. */
  async said(): Promise<string> {
    const mark = `\nDONE-${this.#count}-\n`;
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      this.#changed();
    }, HANG_MS);
    try {
      while (!this.text.includes(mark)) {
        if (this.#over || hung) {
          throw new Error(`gdb ${hung ? "hangs" : "ended"}:\n${this.text.slice(-2000)}`);
        }
        await new Promise<void>((resolve) => {
          this.#changed = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
    const end = this.text.indexOf(mark);
    const before = `\nDONE-${this.#count - 1}-\n`;
    const begin = this.text.lastIndexOf(before, end);
    return this.text.slice(begin < 0 ? 0 : begin + before.length, end).trim();
  }

  async run(command: string): Promise<string> {
    this.give(command);
    return await this.said();
  }

  /** A value that gdb prints for an expression, as a number. */
  async value(expression: string): Promise<bigint> {
    const said = await this.run(`output/x (unsigned long)(${expression})`);
    if (!/^0x[0-9a-f]+$/.test(said)) {
      throw new Error(`${expression}: ${said}`);
    }
    return BigInt(said);
  }

  /** Ctrl-C. */
  interrupt(): void {
    this.child.kill("SIGINT");
  }

  async kill(): Promise<void> {
    if (!this.#over) {
      const closed = once(this.child, "close");
      this.child.kill("SIGKILL");
      await closed;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
