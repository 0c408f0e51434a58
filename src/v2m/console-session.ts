// SPDX-License-Identifier: Apache-2.0
/** The terminal of a machine in the foreground: raw mode, the escape key, end of input, closed pipes. */
import type { Duplex } from "node:stream";

/** Ctrl-A, as in QEMU and minicom. */
const ESCAPE = 0x01;

export const ESCAPE_HELP = `\r
Ctrl-A x  stop the machine        Ctrl-A p  pause or resume\r
Ctrl-A r  reset it                Ctrl-A s  statistics\r
Ctrl-A h  this help               Ctrl-A Ctrl-A  send Ctrl-A to the guest\r
`;

/** What an escape sequence can ask for. */
export type Command = "stop" | "pause" | "reset" | "stats" | "detach" | "help";

const COMMANDS: Readonly<Record<string, Command>> = {
  x: "stop",
  p: "pause",
  r: "reset",
  s: "stats",
  d: "detach",
  h: "help",
  "?": "help",
};

/** Splits what was typed into bytes for the guest and commands for us. State is kept between calls. */
export class EscapeFilter {
  #escaped = false;

  push(data: Uint8Array, onCommand: (command: Command) => void): Buffer {
    const out: number[] = [];
    for (const byte of data) {
      if (!this.#escaped) {
        this.#escaped = byte === ESCAPE;
        if (!this.#escaped) out.push(byte);
        continue;
      }
      this.#escaped = false;
      const command = COMMANDS[String.fromCharCode(byte).toLowerCase()];
      if (byte === ESCAPE) out.push(byte);
      else if (command !== undefined) onCommand(command);
    }
    return Buffer.from(out);
  }
}

export interface SessionCallbacks {
  onCommand(command: Command): void;
  /** Whoever read our output has gone. */
  onClosedOutput(): void;
}

/** Connects standard input and output with a console until `close()`. */
export class ConsoleSession {
  readonly #console: Duplex;
  readonly #terminal: boolean;
  readonly #filter = new EscapeFilter();
  readonly #callbacks: SessionCallbacks;

  constructor(console: Duplex, callbacks: SessionCallbacks) {
    this.#console = console;
    this.#callbacks = callbacks;
    this.#terminal = process.stdin.isTTY === true;
    if (this.#terminal) {
      process.stdin.setRawMode(true);
    }
    process.stdin.on("data", this.#onInput);
    process.stdin.on("error", () => {}); // a terminal that went away: SIGHUP tells
    process.stdout.on("error", this.#onOutputError);
    console.on("drain", this.#onDrain);
    console.pipe(process.stdout, { end: false });
  }

  /** All output up to the machine's end has been written. */
  async drained(): Promise<void> {
    if (!this.#console.readableEnded && !this.#console.destroyed) {
      await new Promise<void>((resolve) => {
        this.#console.once("end", resolve);
        this.#console.once("close", resolve);
      });
    }
    await new Promise<void>((resolve) => process.stdout.write("", () => resolve()));
  }

  close(): void {
    process.stdin.off("data", this.#onInput);
    process.stdin.pause();
    this.#console.off("drain", this.#onDrain);
    this.#console.unpipe(process.stdout);
    if (this.#terminal) {
      process.stdin.setRawMode(false);
    }
  }

  readonly #onInput = (data: Buffer): void => {
    // Without a terminal every byte belongs to the guest.
    const rest = this.#terminal ? this.#filter.push(data, (c) => this.#callbacks.onCommand(c)) : data;
    if (rest.length > 0 && !this.#console.write(rest)) {
      process.stdin.pause(); // the guest is slow to read
    }
  };

  readonly #onDrain = (): void => {
    process.stdin.resume();
  };

  readonly #onOutputError = (error: NodeJS.ErrnoException): void => {
    if (error.code === "EPIPE" || error.code === "EIO") {
      this.#console.unpipe(process.stdout);
      this.#console.resume();
      this.#callbacks.onClosedOutput();
    }
  };
}
