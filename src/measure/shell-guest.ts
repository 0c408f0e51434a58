// SPDX-License-Identifier: Apache-2.0
/** A Linux guest of any monitor, driven through the shell on its console. */
import type { Readable, Writable } from "node:stream";
import { GUEST_READY } from "../../harness/initramfs.js";
import { V3mError } from "../errors.js";

/** Against hangs only. */
const HANG_MS = 300_000;

export class ShellGuest {
  readonly #input: Writable;
  #text = "";
  #from = 0;
  #commands = 0;
  #ended = false;
  #changed: () => void = () => {};

  constructor(input: Writable, output: Readable) {
    this.#input = input;
    input.on("error", () => {}); // it may end at any time
    output.on("data", (chunk: Buffer) => {
      this.#text += chunk.toString("latin1");
      this.#changed();
    });
    for (const event of ["end", "close"]) {
      output.on(event, () => {
        this.#ended = true;
        this.#changed();
      });
    }
  }

  /** Until its shell takes commands: one without prompt and job control, for its output is no terminal. */
  async ready(): Promise<void> {
    await this.#waitFor(new RegExp(GUEST_READY));
    await this.#waitFor(/\/ # /);
    this.#input.write("stty -echo; echo V3M-SHELL''-READY; sh -s 2>&1 | cat; poweroff -f\n");
    await this.#waitFor(/V3M-SHELL-READY\r?\n/);
  }

  /** What a command prints. @throws V3mError E_GUEST when it fails */
  async run(command: string): Promise<string> {
    const end = `@@${++this.#commands}`;
    this.#input.write(`{ ${command}\n} </dev/null 2>&1\necho "${end}:$?@@"\n`);
    const start = this.#from;
    const match = await this.#waitFor(new RegExp(`${end}:(\\d+)@@\\r?\\n`));
    const output = this.#text.slice(start, match.index).replaceAll("\r", "");
    if (match[1] !== "0") {
      throw new V3mError("E_GUEST", `in the guest: ${command}: exit code ${match[1]}`, {
        hint: `it printed: ${JSON.stringify(output.slice(-500))}`,
      });
    }
    return output;
  }

  powerOff(): void {
    this.#input.write("poweroff -f\n");
  }

  async #waitFor(pattern: RegExp): Promise<RegExpExecArray> {
    const until = Date.now() + HANG_MS;
    for (;;) {
      const match = pattern.exec(this.#text.slice(this.#from));
      if (match !== null) {
        match.index += this.#from;
        this.#from = match.index + match[0].length;
        return match;
      }
      if (this.#ended || Date.now() >= until) {
        throw new V3mError("E_GUEST", `the guest did not show ${pattern}`, {
          hint: `its console ended with: ${JSON.stringify(this.#text.slice(-2000))}`,
        });
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, until - Date.now());
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}
