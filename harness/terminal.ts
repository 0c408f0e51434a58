/** The caller's terminal while the command has a terminal of its own: raw mode, and a way out if the machine hangs. */
import { Transform } from "node:stream";
import type { ReadStream } from "node:tty";

const ESCAPE = 0x1d; // Ctrl-]
const TIMES = 3;
const WITHIN_MS = 2000;

export interface RawTerminal {
  /** What is typed, for the command. */
  readonly input: Transform;
  restore(): void;
}

/** Switches `terminal` to raw mode. Ctrl-] typed three times within two seconds calls `onEscape`. */
export function rawTerminal(terminal: ReadStream, onEscape: () => void): RawTerminal {
  let times: number[] = [];
  const input = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      for (const byte of chunk) {
        if (byte !== ESCAPE) times = [];
        else times = [...times.filter((time) => time > Date.now() - WITHIN_MS), Date.now()];
      }
      if (times.length >= TIMES) onEscape();
      done(null, chunk);
    },
  });
  terminal.setRawMode(true);
  terminal.pipe(input);
  return {
    input,
    restore() {
      terminal.unpipe(input);
      terminal.pause();
      terminal.setRawMode(false);
    },
  };
}
