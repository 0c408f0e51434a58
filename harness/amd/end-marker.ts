/** Finds the token at the end of a stream without delaying the data before it. */
export class EndMarker {
  readonly #token: Buffer;
  #held: Buffer = Buffer.alloc(0);
  #seen = false;

  constructor(token: string) {
    this.#token = Buffer.from(token);
  }

  /** True once the token has been read: the stream is complete. */
  get seen(): boolean {
    return this.#seen;
  }

  /** Takes the next bytes and returns those that are certainly data. Holds back only what may be the token's start. */
  push(chunk: Buffer): Buffer {
    const data = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const end = data.indexOf(this.#token);
    if (end >= 0) {
      this.#seen = true;
      this.#held = Buffer.alloc(0);
      return data.subarray(0, end);
    }
    const keep = this.#partial(data);
    this.#held = data.subarray(data.length - keep);
    return data.subarray(0, data.length - keep);
  }

  /** What is still held back when a stream ended without its token. */
  rest(): Buffer {
    return this.#held;
  }

  /** Length of the longest end of `data` that is a beginning of the token. */
  #partial(data: Buffer): number {
    for (let length = Math.min(this.#token.length - 1, data.length); length > 0; length--) {
      if (data.subarray(data.length - length).equals(this.#token.subarray(0, length))) return length;
    }
    return 0;
  }
}
