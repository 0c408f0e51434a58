// SPDX-License-Identifier: Apache-2.0
/** Writing to descriptors that applications write to as well: in whole lines, without Node's streams, which
 *  would change the descriptors' flags. */
import { write, writeSync } from "node:fs";
import { Socket } from "node:net";

/** A line that gets longer is cut into pieces. */
const MAX_LINE = 65_536;
const RETRY_MS = 5;

/** Text for people on standard error; lost where that is closed. */
export function sayError(text: string): void {
  const data = Buffer.from(`${text}\n`);
  try {
    for (let at = 0; at < data.length; ) {
      try {
        at += writeSync(2, data, at);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      }
    }
  } catch {
    // Nobody is there to be told.
  }
}

/** One write after the other to a descriptor, each complete. */
export class OrderedWriter {
  readonly #fd: number;
  #last: Promise<void> = Promise.resolve();
  #failed: NodeJS.ErrnoException | undefined;
  readonly #onError: (error: NodeJS.ErrnoException) => void;

  /** @param onError called once; later writes are dropped. */
  constructor(fd: number, onError: (error: NodeJS.ErrnoException) => void) {
    this.#fd = fd;
    this.#onError = onError;
  }

  write(data: Uint8Array): Promise<void> {
    this.#last = this.#last.then(() => this.#all(data));
    return this.#last;
  }

  async #all(data: Uint8Array): Promise<void> {
    let at = 0;
    while (at < data.length && this.#failed === undefined) {
      try {
        at += await this.#some(data.subarray(at));
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "EAGAIN") {
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        } else {
          this.#failed = error as NodeJS.ErrnoException;
          this.#onError(this.#failed);
        }
      }
    }
  }

  #some(data: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      write(this.#fd, data, (error, written) => (error === null ? resolve(written) : reject(error)));
    });
  }
}

/** Splits bytes into lines, newline included; the rest at the end gets one. */
export class LineSplitter {
  #rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): Buffer[] {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const lines: Buffer[] = [];
    for (;;) {
      const end = data.indexOf(10);
      if (end >= 0) {
        lines.push(data.subarray(0, end + 1));
        data = data.subarray(end + 1);
      } else if (data.length >= MAX_LINE) {
        lines.push(Buffer.concat([data, Buffer.from("\n")]));
        data = Buffer.alloc(0);
      } else {
        this.#rest = Buffer.from(data);
        return lines;
      }
    }
  }

  end(): Buffer[] {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest.length === 0 ? [] : [Buffer.concat([rest, Buffer.from("\n")])];
  }
}

/**
 * Copy what comes out of a descriptor (which is closed at the end) line by line, each after `prefix`. A slow
 * reader of the copy holds the writer back.
 */
export function copyLines(fd: number, prefix: string, writer: OrderedWriter): Promise<void> {
  const head = Buffer.from(prefix);
  const splitter = new LineSplitter();
  const socket = new Socket({ fd, readable: true, writable: false });
  const put = (lines: Buffer[]) => writer.write(Buffer.concat(lines.flatMap((line) => [head, line])));
  return new Promise((resolve) => {
    socket.on("data", (chunk: Buffer) => {
      const lines = splitter.push(chunk);
      if (lines.length > 0) {
        socket.pause();
        void put(lines).then(() => socket.resume());
      }
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => void put(splitter.end()).then(resolve));
  });
}
