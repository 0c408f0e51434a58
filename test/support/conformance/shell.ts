// SPDX-License-Identifier: Apache-2.0
/** A shell at the other end of a console, whatever the console belongs to. */
import type { Duplex } from "node:stream";

/** Only against hangs: emulation within emulation is slow. */
const HANG_MS = 400_000;
const TAIL = 2000;

export class ConsoleShell {
  /** All that came, one character a byte. */
  text = "";
  ended = false;
  readonly stream: Duplex;
  #position = 0;
  #commands = 0;
  readonly #waiting = new Set<() => void>();

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on("data", (chunk: Buffer) => {
      this.text += chunk.toString("latin1");
      this.#wake();
    });
    for (const event of ["end", "close", "error"]) {
      stream.on(event, () => {
        this.ended = true;
        this.#wake();
      });
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Wait until `condition` holds, which is looked at whenever something came. */
  async until(condition: () => boolean, what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    let look = () => {};
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (why: string) =>
          reject(new Error(`${what} did not come: ${why}:\n${this.text.slice(-TAIL)}`));
        look = () => {
          if (condition()) resolve();
          else if (this.ended) fail("the console has ended");
        };
        timer = setTimeout(() => fail("no sign of life"), HANG_MS);
        this.#waiting.add(look);
        look();
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
  }

  /** Wait for text behind what the last wait found. */
  async waitFor(pattern: RegExp): Promise<RegExpExecArray> {
    let match: RegExpExecArray | null = null;
    await this.until(() => {
      match = pattern.exec(this.text.slice(this.#position));
      return match !== null;
    }, String(pattern));
    const found = match as unknown as RegExpExecArray;
    found.index += this.#position;
    this.#position = found.index + found[0].length;
    return found;
  }

  type(text: string): void {
    this.stream.write(text);
  }

  /** From the initramfs's prompt to a shell without prompt and echo. */
  async begin(): Promise<void> {
    await this.waitFor(/V3M-GUEST-READY/);
    await this.waitFor(/\/ # /);
    this.type("stty -echo; echo V3M-SHELL''-READY; sh -s 2>&1 | cat; poweroff -f\n");
    await this.waitFor(/V3M-SHELL-READY\r?\n/);
  }

  async run(command: string): Promise<{ code: number; output: string }> {
    const end = `@@${++this.#commands}`;
    const start = this.#position;
    this.type(`{ ${command}\n} </dev/null 2>&1\necho "${end}:$?@@"\n`);
    const match = await this.waitFor(new RegExp(`${end}:(\\d+)@@\\r?\\n`));
    const output = this.text.slice(start, match.index).replace(/\r/g, "");
    return { code: Number(match[1]), output: output.replace(/\n$/, "") };
  }

  /** @returns what the command printed. @throws where it fails */
  async sh(command: string): Promise<string> {
    const { code, output } = await this.run(command);
    if (code !== 0) throw new Error(`${command}: exit code ${code}: ${output}`);
    return output;
  }
}
