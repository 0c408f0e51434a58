/** Passes standard input into the machine, piece by piece, as fast as the command takes it. */
import type { Readable } from "node:stream";
import { MESSAGE, MESSAGE_LIMIT, type Scratch } from "./scratch.js";

export class StandardInput {
  /** The agent has room for one message. */
  #ready = true;
  #ended = false;
  #attached = false;
  readonly #onReadable = (): void => this.#pass();
  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#pass();
  };

  constructor(
    private readonly source: Readable | null,
    private readonly scratch: Scratch,
  ) {}

  /** Begins to read: the command runs. */
  attach(): void {
    if (!this.source) {
      this.#ended = true;
      this.#close();
      return;
    }
    this.#attached = true;
    this.source.on("readable", this.#onReadable);
    this.source.once("end", this.#onEnd);
    this.source.once("error", this.#onEnd);
    if (this.source.readableEnded) this.#onEnd();
    else this.#pass();
  }

  /** The agent has passed on all it had. */
  ready(): void {
    this.#ready = true;
    this.#pass();
  }

  /** Leaves the source alone: it outlives the run. */
  detach(): void {
    if (!this.#attached || !this.source) return;
    this.#attached = false;
    this.source.off("readable", this.#onReadable);
    this.source.off("end", this.#onEnd);
    this.source.off("error", this.#onEnd);
    this.source.pause();
  }

  #pass(): void {
    if (!this.#attached || !this.#ready || !this.source) return;
    if (this.#ended) {
      this.#close();
      return;
    }
    const available = this.source.readableLength;
    const data = this.source.read(Math.min(available, MESSAGE_LIMIT) || undefined) as Buffer | string | null;
    if (data === null || data.length === 0) return;
    this.#ready = false;
    const bytes = Buffer.from(data);
    // read() without a size may give more than fits when more has arrived meanwhile.
    if (bytes.length > MESSAGE_LIMIT) this.source.unshift(bytes.subarray(MESSAGE_LIMIT));
    void this.scratch.send(MESSAGE.stdin, bytes.subarray(0, MESSAGE_LIMIT));
  }

  /** An empty message is the end of the input. */
  #close(): void {
    this.#ready = false;
    this.#attached = this.#attached && !this.#ended;
    void this.scratch.send(MESSAGE.stdin, Buffer.alloc(0));
  }
}
