/**
 * Reads what the agent sends out of the machine: frames in the standard output of Bochs (guest/channel.h). What
 * comes before the agent's first sign, Bochs's banner, is skipped.
 */

const SYNC = Buffer.from("\u0001V3M-AGENT\u0002", "latin1");
const HEADER_SIZE = 4;
const MARK = "V".charCodeAt(0);

/** Kinds of frames; the names and letters are those of guest/channel.h. */
export const FRAME = {
  started: "S",
  stdout: "O",
  stderr: "E",
  ready: "R",
  taken: "A",
  beat: "B",
  output: "T",
  exit: "X",
  failed: "F",
} as const;

export interface Frame {
  /** One of FRAME's letters, if both sides agree. */
  readonly kind: string;
  readonly data: Buffer;
}

/** The stream is not what the agent sends: Bochs itself has something to say. */
export class FrameError extends Error {
  constructor(readonly text: string) {
    super("the machine's channel is damaged");
  }
}

export class FrameReader {
  #held: Buffer = Buffer.alloc(0);
  #synchronized = false;

  /** True once the agent has shown itself. */
  get synchronized(): boolean {
    return this.#synchronized;
  }

  /** Takes the next bytes and returns the frames that are now complete. Throws FrameError. */
  push(chunk: Buffer): Frame[] {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    if (!this.#synchronized && !this.#synchronize()) return [];
    const frames: Frame[] = [];
    let offset = 0;
    for (;;) {
      const left = this.#held.length - offset;
      if (left > 0 && this.#held[offset] !== MARK) {
        throw new FrameError(this.#held.subarray(offset).toString("latin1"));
      }
      if (left < HEADER_SIZE) break;
      const length = this.#held.readUInt16LE(offset + 2);
      if (left < HEADER_SIZE + length) break;
      const kind = String.fromCharCode(this.#held[offset + 1] ?? 0);
      frames.push({ kind, data: this.#held.subarray(offset + HEADER_SIZE, offset + HEADER_SIZE + length) });
      offset += HEADER_SIZE + length;
    }
    this.#held = this.#held.subarray(offset);
    return frames;
  }

  /** What Bochs said before the agent showed itself. */
  get noise(): string {
    return this.#synchronized ? "" : this.#held.toString("latin1");
  }

  #synchronize(): boolean {
    const at = this.#held.indexOf(SYNC);
    if (at < 0) return false;
    this.#held = this.#held.subarray(at + SYNC.length);
    this.#synchronized = true;
    return true;
  }
}
