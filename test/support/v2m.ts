// SPDX-License-Identifier: Apache-2.0
/** The v2m command from outside: as a user runs it, compiled. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { LOAD_ADDRESS, type PayloadName, payloadPath, payloads } from "./payloads.js";

const MAIN = join(packageRoot(), "dist/src/v2m/main.js");
/** Only against hangs. */
const HANG_MS = 420_000;

/** `node …/main.js`, for a shell or another program to run. */
export const V2M: readonly string[] = [process.execPath, MAIN];

/** Options of `v2m run` for a tiny guest. */
export function payloadArgs(name: PayloadName): string[] {
  const { kind } = payloads[name];
  const address =
    kind === "flat16" || kind === "flat64" ? ["--load-address", String(LOAD_ADDRESS[kind])] : [];
  return ["--kernel", payloadPath(name), "--kind", kind, "--memory", "16M", ...address];
}

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process under observation. */
export class Observed {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  readonly outcome: Promise<Outcome>;
  #changed: () => void = () => {};
  #over = false;

  constructor(argv: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(argv[0] ?? "", argv.slice(1), {
      cwd: packageRoot(),
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.child.stdin?.on("error", () => {}); // it may end before it has read everything
    this.child.stdout?.on("data", (chunk: Buffer) => {
      this.stdout += chunk.toString("latin1");
      this.#changed();
    });
    this.child.stderr?.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString("utf8");
    });
    const hang = setTimeout(() => this.child.kill("SIGKILL"), HANG_MS);
    this.outcome = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (code, signal) => {
        clearTimeout(hang);
        this.#over = true;
        this.#changed();
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  /** Standard output has shown this. */
  async saw(text: string | RegExp): Promise<void> {
    const found = () => (typeof text === "string" ? this.stdout.includes(text) : text.test(this.stdout));
    while (!found()) {
      if (this.#over) {
        throw new Error(
          `ended before it said ${text}:\n${this.stdout.slice(-2000)}\n${this.stderr.slice(-2000)}`,
        );
      }
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  type(text: string): void {
    this.child.stdin?.write(text);
  }
}

export function start(...args: readonly string[]): Observed {
  return new Observed([...V2M, ...args]);
}

/** Run to the end, with nothing on standard input. */
export async function v2m(...args: readonly string[]): Promise<Outcome> {
  const observed = start(...args);
  observed.child.stdin?.end();
  return observed.outcome;
}

/** The error message and the hint on standard error: exactly these two lines, and nothing else. */
export function messageOf(outcome: Outcome): { message: string; code: string; hint: string } {
  const match = /^v2m: ([^\n]+) \[(E_[A-Z_]+)\]\nhint: ([^\n]+)\n$/.exec(outcome.stderr);
  if (match === null) {
    throw new Error(`not one message with a hint: ${JSON.stringify(outcome)}`);
  }
  return { message: match[1] ?? "", code: match[2] ?? "", hint: match[3] ?? "" };
}
