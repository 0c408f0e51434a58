/**
 * What every testbed machine has in common: the request, the interface a machine implements, the choice of a
 * machine, and the rules about time limits and interruption (which live here so that machines need not repeat them).
 */
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { TestbedError } from "./common/errors.js";

export { cacheDir, cached } from "./common/cache.js";
export { TestbedError, type TestbedErrorCode } from "./common/errors.js";
export { findTool, requireTool, runTool } from "./common/tools.js";

export type TestbedKind = "amd" | "intel" | "host";

/** Exit codes of v2m-testbed that are not the command's own. */
export const EXIT_TIMEOUT = 124;
export const EXIT_TESTBED = 125;

/** How long a command may take to end after a forwarded signal before its machine is killed. */
const GRACE_MS = 5000;

export type ForwardedSignal = "SIGINT" | "SIGTERM" | "SIGHUP";

/** What to run and how. Complete: a machine reads nothing from the process it lives in. */
export interface RunRequest {
  /** Program and arguments; looked up in the PATH of `env` inside the machine. Never empty. */
  readonly command: readonly string[];
  /** Absolute path of a directory that exists on the host. */
  readonly cwd: string;
  /** The whole environment of the command (V3M_TESTBED and, with outDir, V3M_TESTBED_OUT included). */
  readonly env: Readonly<Record<string, string>>;
  readonly memoryMiB: number;
  readonly cpus: number;
  /** Absolute path of an existing host directory whose contents the command may write; same path inside. */
  readonly outDir?: string;
  /** Bytes for the command's standard input; null: it reads end-of-file at once. */
  readonly stdin: Readable | null;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** The three streams are one terminal: give the command one too, if the machine can. */
  readonly terminal: boolean;
  /** Progress for people (`--verbose`); does nothing otherwise. */
  readonly log: (message: string) => void;
}

/** How the world outside reaches a running command. */
export interface RunControl {
  /** When it aborts, kill everything at once, clean up, and reject with `abort.reason`. */
  readonly abort: AbortSignal;
  /** Calls `deliver` for each signal meant for the command. To be called once, when the command has been started. */
  onSignal(deliver: (signal: ForwardedSignal) => void): void;
}

/** A machine that can run one command. `harness/intel/index.ts` and its siblings export one as `machine`. */
export interface TestbedMachine {
  readonly kind: TestbedKind;
  /** Fetches and builds all that is cached (kernels, images, snapshots), so that later runs need no network. */
  prepare(options: PrepareOptions): Promise<void>;
  /**
   * Boots, runs the command, ends the machine. Resolves with the command's exit code (128 + n for signal n) after
   * all of its output has been written to `stdout` and `stderr` (which are not ended), and when no process,
   * temporary file or directory is left. Rejects with a TestbedError if the machine failed, or `abort.reason`.
   */
  run(request: RunRequest, control: RunControl): Promise<number>;
}

export interface PrepareOptions {
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly log: (message: string) => void;
}

/** Loads a machine. Dynamic, so that using one does not load (or break on) another. */
export async function loadMachine(kind: TestbedKind): Promise<TestbedMachine> {
  switch (kind) {
    case "amd":
      return (await import("./amd/index.js")).machine;
    case "host":
      return (await import("./host/index.js")).machine;
    case "intel": {
      // By way of a variable: the type checker must not need a sibling that may not be built.
      const path = "./intel/index.js";
      return ((await import(path)) as { machine: TestbedMachine }).machine;
    }
  }
}

/** `host` where this computer has real nested virtualization, else `amd`. */
export async function defaultKind(): Promise<TestbedKind> {
  const { hostVirtualization } = await import("./host/detect.js");
  return (await hostVirtualization()).usable ? "host" : "amd";
}

export interface Limits {
  /** Milliseconds from the start of the machine to the forced end; undefined: none. */
  readonly timeoutMs?: number;
}

/** The handle by which a command line (or a test) interrupts a run. */
export class Interruption implements RunControl {
  readonly #controller = new AbortController();
  #deliver: ((signal: ForwardedSignal) => void) | undefined;
  #signalled = false;
  #grace: NodeJS.Timeout | undefined;

  get abort(): AbortSignal {
    return this.#controller.signal;
  }

  onSignal(deliver: (signal: ForwardedSignal) => void): void {
    this.#deliver = deliver;
  }

  /**
   * The first signal goes to the command, which gets a few seconds to end; the second one kills the machine. So does
   * the first one while there is no command yet.
   */
  signal(signal: ForwardedSignal): void {
    if (this.#signalled || !this.#deliver) {
      this.kill(interrupted(signal));
      return;
    }
    this.#signalled = true;
    this.#deliver(signal);
    this.#grace = setTimeout(() => this.kill(interrupted(signal)), GRACE_MS);
  }

  kill(reason: TestbedError): void {
    this.#controller.abort(reason);
  }

  /** Call when the run is over, so that no timer keeps the process alive. */
  dispose(): void {
    clearTimeout(this.#grace);
  }
}

/** Error whose exit code is 128 + the signal's number. */
export class InterruptedError extends TestbedError {
  constructor(readonly signal: ForwardedSignal | "SIGPIPE") {
    super("E_INTERRUPTED", `ended by ${signal}`);
  }
}

function interrupted(signal: ForwardedSignal): InterruptedError {
  return new InterruptedError(signal);
}

/** Runs a command in a machine under a time limit. Resolves with the command's exit code; rejects as `run` does. */
export async function runIn(
  machine: TestbedMachine,
  request: RunRequest,
  limits: Limits,
  interruption: Interruption,
): Promise<number> {
  const { timeoutMs } = limits;
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          const message = `the command did not end within ${timeoutMs / 1000} s`;
          interruption.kill(new TestbedError("E_TIMEOUT", message, { hint: "raise --timeout" }));
        }, timeoutMs);
  try {
    return await machine.run(request, interruption);
  } finally {
    clearTimeout(timer);
    interruption.dispose();
  }
}

/** The exit code that v2m-testbed documents for a failure. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof InterruptedError) return 128 + constants.signals[error.signal];
  if (error instanceof TestbedError && error.code === "E_TIMEOUT") return EXIT_TIMEOUT;
  return EXIT_TESTBED;
}
