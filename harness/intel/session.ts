/** The host's side of one run: passes the streams, and waits for the end, whichever comes first. */
import { constants } from "node:os";
import type { Writable } from "node:stream";
import { TestbedError, type TestbedErrorCode } from "../common/errors.js";
import type { RunControl, RunRequest } from "../testbed.js";
import type { Bochs } from "./bochs.js";
import { FRAME, type Frame, FrameError, FrameReader } from "./frames.js";
import { StandardInput } from "./input.js";
import { MESSAGE, type Scratch } from "./scratch.js";

/** Longest time to the start of the command, in milliseconds. A boot takes about 20 s on an idle host. */
export const BOOT_LIMIT_MS = 300_000;
/** A saved machine needs two; if it shows nothing by then, it is booted afresh. */
export const RESTORE_LIMIT_MS = 60_000;
/** The agent gives a sign every four virtual seconds; on a busy host these are longer. */
const HANG_LIMIT_MS = 180_000;
const CONSOLE_INTERVAL_MS = 1000;

export interface SessionOptions {
  readonly request: RunRequest;
  readonly control: RunControl;
  readonly scratch: Scratch;
  readonly startLimitMs: number;
  readonly progress: SessionProgress;
}

/** What a session tells its owner besides its result. */
export interface SessionProgress {
  /** The command was about to start: from here on nothing may be tried a second time. */
  started: boolean;
}

/** Runs the job in a machine that is booting or restored. Leaves ending the machine to the caller. */
export class Session {
  readonly #reader = new FrameReader();
  /** The last write to each stream: when it is done, all before it are. */
  readonly #written = new Map<Writable, Promise<void>>();
  readonly #input: StandardInput;
  #timer: NodeJS.Timeout | undefined;
  #outputLength: number | undefined;
  #paused = 0;

  constructor(
    private readonly bochs: Bochs,
    private readonly options: SessionOptions,
  ) {
    this.#input = new StandardInput(options.request.stdin, options.scratch);
  }

  async run(): Promise<number> {
    const { control, startLimitMs, request, scratch } = this.options;
    let poll: NodeJS.Timeout | undefined;
    let onAbort = (): void => {};
    const resize = (): void => this.#resize();
    try {
      const code = await new Promise<number>((resolve, reject) => {
        onAbort = () => reject(control.abort.reason);
        if (control.abort.aborted) onAbort();
        control.abort.addEventListener("abort", onAbort, { once: true });
        const fail = (code: TestbedErrorCode, message: string): void => {
          this.#failure(code, message).then(reject, reject);
        };
        this.#watch(startLimitMs, () =>
          fail("E_BOOT", `the machine did not come up within ${startLimitMs / 1000} s`),
        );
        poll = setInterval(() => {
          this.#panicked().then((panic) => {
            if (panic)
              fail(this.options.progress.started ? "E_CRASH" : "E_BOOT", "the machine's kernel panicked");
          }, reject);
        }, CONSOLE_INTERVAL_MS);
        this.bochs.exited.then(() => {
          if (this.options.progress.started)
            fail("E_CRASH", "the machine ended while the command was running");
          else fail("E_BOOT", "the machine ended before the command was started");
        });
        this.bochs.output.on("data", (chunk: Buffer) => {
          try {
            for (const frame of this.#reader.push(chunk)) {
              if (frame.kind === FRAME.started) request.stdout.on("resize", resize);
              const end = this.#handle(frame, fail);
              if (end !== undefined) resolve(end);
            }
          } catch (error) {
            if (error instanceof FrameError) fail("E_CRASH", `Bochs says: ${error.text.slice(0, 400)}`);
            else reject(error);
          }
        });
      });
      await Promise.all(this.#written.values());
      if (this.#outputLength !== undefined && request.outDir !== undefined) {
        await scratch.unpackOutput(this.#outputLength, request.outDir);
      }
      return code;
    } finally {
      clearTimeout(this.#timer);
      clearInterval(poll);
      control.abort.removeEventListener("abort", onAbort);
      request.stdout.off("resize", resize);
      this.#input.detach();
    }
  }

  /** Acts on a frame; returns the exit code if it is the last one. */
  #handle(
    { kind, data }: Frame,
    fail: (code: TestbedErrorCode, message: string) => void,
  ): number | undefined {
    const { request, control, scratch } = this.options;
    if (this.options.progress.started) this.#rewatch(fail);
    switch (kind) {
      case FRAME.started:
        this.options.progress.started = true;
        this.#rewatch(fail);
        this.#input.attach();
        control.onSignal((name) => {
          scratch.send(MESSAGE.signal, Buffer.from(`${constants.signals[name]}\0`));
        });
        break;
      case FRAME.stdout:
      case FRAME.stderr:
        this.#write(kind === FRAME.stdout ? request.stdout : request.stderr, data);
        break;
      case FRAME.ready:
        this.#input.ready();
        break;
      case FRAME.taken:
        scratch.taken();
        break;
      case FRAME.output:
        this.#outputLength = Number(data.toString());
        break;
      case FRAME.failed:
        fail(
          this.options.progress.started ? "E_CRASH" : "E_BOOT",
          `the machine could not do its work: ${data.toString()}`,
        );
        break;
      case FRAME.exit:
        // The consumer of the output may be slow, and is waited for without a limit.
        clearTimeout(this.#timer);
        return Number(data.toString());
    }
    return undefined;
  }

  /** A slow consumer stops the machine: nothing is read from it meanwhile, so its next output blocks Bochs. */
  #write(target: Writable, data: Buffer): void {
    // The callback also comes if the target failed; whoever owns the target watches for that.
    this.#written.set(target, new Promise((resolve) => target.write(data, () => resolve())));
    if (!target.writableNeedDrain) return;
    this.#paused += 1;
    this.bochs.output.pause();
    target.once("drain", () => {
      this.#paused -= 1;
      if (this.#paused === 0) this.bochs.output.resume();
    });
  }

  #watch(milliseconds: number, late: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#paused > 0) this.#watch(milliseconds, late);
      else late();
    }, milliseconds);
  }

  #rewatch(fail: (code: TestbedErrorCode, message: string) => void): void {
    this.#watch(HANG_LIMIT_MS, () => fail("E_HANG", "the machine hangs: no sign of life from it"));
  }

  #resize(): void {
    const { columns = 80, rows = 24 } = this.options.request.stdout as { columns?: number; rows?: number };
    this.options.scratch.send(MESSAGE.size, Buffer.from(`${rows} ${columns}\0`));
  }

  async #panicked(): Promise<boolean> {
    return (await this.bochs.console()).includes("Kernel panic - not syncing");
  }

  /** An error with what the machine's console (kernel messages) and Bochs said. */
  async #failure(code: TestbedErrorCode, message: string): Promise<TestbedError> {
    const console = await this.bochs.console();
    const panic = /Kernel panic - not syncing: (.*)/.exec(console)?.[1]?.trim();
    const log = [this.bochs.errors, this.#reader.noise, console.split("\n").slice(-60).join("\n")]
      .filter((part) => part.trim() !== "")
      .join("\n");
    const reason = panic ? `${message} (${panic})` : message;
    return new TestbedError(code, reason, log === "" ? {} : { consoleLog: log });
  }
}
