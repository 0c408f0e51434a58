// SPDX-License-Identifier: Apache-2.0
/** Applications on the lightweight kernel, in this process, with their standard streams under observation. */
import { closeSync, openSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { Launched, type Outcome } from "../../src/yod/launch.js";
import type { LaunchOptions } from "../../src/yod/launch-options.js";
import { Pipe } from "../../src/yod/pipe.js";

export const BUSYBOX = "/bin/busybox";
/** Only against hangs. */
const HANG_MS = 300_000;

/** A program of test/programs: `launched.musl`. */
export function program(name: string): string {
  return join(packageRoot(), "test/programs/build", name);
}

/** Everything but the program, its arguments and its streams; 64 MiB of RAM unless told otherwise. */
export type AppOptions = Omit<LaunchOptions, "app" | "args" | "stdio"> & {
  /** All of standard input; without: none, and at its end at once. */
  readonly input?: Uint8Array | string;
  /** Leave standard input open, for `type`. */
  readonly interactive?: boolean;
};

export interface AppRun {
  readonly outcome: Outcome;
  readonly output: Buffer;
  /** Standard output and standard error as text. */
  readonly stdout: string;
  readonly stderr: string;
}

/** Collects what comes out of a pipe. */
class Collector {
  readonly chunks: Buffer[] = [];
  readonly ended: Promise<void>;
  onData: () => void = () => {};

  constructor(fd: number) {
    const socket = new Socket({ fd, readable: true, writable: false });
    socket.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.onData();
    });
    socket.on("error", () => socket.destroy());
    this.ended = new Promise((resolve) => socket.once("close", () => resolve()));
    void this.ended.then(() => this.onData());
  }

  get data(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

/** A started application. */
export class App implements AsyncDisposable {
  readonly launched: Launched;
  readonly #out: Collector;
  readonly #err: Collector;
  readonly #input: Socket | undefined;
  #over = false;

  private constructor(launched: Launched, out: Collector, err: Collector, input: Socket | undefined) {
    this.launched = launched;
    this.#out = out;
    this.#err = err;
    this.#input = input;
  }

  static async start(app: string, args: readonly string[] = [], options: AppOptions = {}): Promise<App> {
    const { input, interactive, ...rest } = options;
    using out = new Pipe();
    using err = new Pipe();
    using stdin = input === undefined && interactive !== true ? undefined : new Pipe();
    const empty = stdin === undefined ? openSync("/dev/null", "r") : -1;
    let launched: Launched;
    try {
      launched = await Launched.prepare({
        memory: 64 << 20,
        timeoutMs: HANG_MS,
        ...rest,
        app,
        args,
        stdio: [stdin?.readEnd ?? empty, out.writeEnd, err.writeEnd],
      });
    } finally {
      if (empty >= 0) closeSync(empty);
    }
    launched.start();
    let writer: Socket | undefined;
    if (stdin !== undefined) {
      writer = new Socket({ fd: stdin.release(stdin.writeEnd), readable: false, writable: true });
      writer.on("error", () => writer?.destroy()); // it may end before it has read everything
      if (input !== undefined) writer.end(input);
    }
    const collector = (pipe: Pipe) => new Collector(pipe.release(pipe.readEnd));
    return new App(launched, collector(out), collector(err), writer);
  }

  get stdout(): string {
    return this.#out.data.toString("latin1");
  }

  type(text: string): void {
    this.#input?.write(text);
  }

  /** Standard output has shown this text. */
  async saw(text: string): Promise<void> {
    while (!this.stdout.includes(text)) {
      if (this.#over) throw new Error(`ended before it said ${text}:\n${this.stdout.slice(-2000)}`);
      await new Promise<void>((resolve) => {
        this.#out.onData = resolve;
        void this.#out.ended.then(() => {
          this.#over = true;
        });
      });
    }
  }

  /** Wait for its end and for all of its output. */
  async finish(): Promise<AppRun> {
    const outcome = await this.launched.wait();
    await Promise.all([this.#out.ended, this.#err.ended]);
    this.#input?.destroy();
    const output = this.#out.data;
    return { outcome, output, stdout: output.toString("latin1"), stderr: this.#err.data.toString("latin1") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.launched.dispose();
    this.#input?.destroy();
    await Promise.all([this.#out.ended, this.#err.ended]);
  }
}

/** Run a program to its end. */
export async function runApp(
  app: string,
  args: readonly string[] = [],
  options: AppOptions = {},
): Promise<AppRun> {
  await using running = await App.start(app, args, options);
  return await running.finish();
}

/** The status with which it exited; an error that tells what happened where it did not. */
export function statusOf({ outcome, stdout, stderr }: AppRun): number {
  if (outcome.kind === "exit" && !outcome.timedOut) return outcome.status;
  const text = JSON.stringify(
    outcome,
    (key, value: unknown) =>
      key === "statistics" ? undefined : typeof value === "bigint" ? `0x${value.toString(16)}` : value,
    1,
  );
  throw new Error(`did not exit: ${text}\n${stdout.slice(-1000)}\n${stderr.slice(-1000)}`);
}
