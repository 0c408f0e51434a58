// SPDX-License-Identifier: Apache-2.0
/** `v2m console`: attach to the console of a VM, with what it has said so far; detaching leaves it running. */
import type { Duplex } from "node:stream";
import type { V3m } from "../v3m/v3m.js";
import { type Command, ConsoleSession } from "./console-session.js";
import { Exit, SIGNAL_CODES } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { formatBytes, parseDuration, UsageError } from "./values.js";

export interface ConsoleFlags extends FrontFlags {
  readonly idle?: string;
}

const HELP = `\r
Ctrl-A d  detach, the VM goes on  Ctrl-A p  pause or resume it\r
Ctrl-A x  stop it                 Ctrl-A r  reset it\r
Ctrl-A s  statistics              Ctrl-A h  this help\r
Ctrl-A Ctrl-A  send Ctrl-A to the guest\r
`;

class Attachment {
  readonly #v3m: V3m;
  readonly #name: string;
  readonly #console: Duplex;
  readonly #session: ConsoleSession;
  readonly #idleMs: number | undefined;
  #detach: (code: number) => void = () => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(v3m: V3m, name: string, console: Duplex, idleMs: number | undefined) {
    this.#v3m = v3m;
    this.#name = name;
    this.#console = console;
    this.#idleMs = idleMs;
    this.#session = new ConsoleSession(console, {
      onCommand: (command) => void this.#obey(command),
      onClosedOutput: () => this.#detach(Exit.SIGPIPE),
    });
    console.on("data", this.#restartTimer);
  }

  readonly #restartTimer = (): void => {
    if (this.#idleMs === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#detach(Exit.OK), this.#idleMs);
  };

  /** Until somebody detaches, or the machine has ended. @returns the exit code */
  async run(interrupt: Interrupt): Promise<number> {
    this.#restartTimer();
    const detached = new Promise<number>((resolve) => {
      this.#detach = resolve;
    });
    interrupt.signal.addEventListener("abort", () =>
      this.#detach(SIGNAL_CODES[interrupt.by ?? "SIGTERM"] ?? Exit.SIGTERM),
    );
    const failed = new Promise<never>((_, reject) => this.#console.once("error", reject));
    const ended = this.#session.drained().then(() => Exit.OK);
    try {
      return await Promise.race([detached, ended, failed]);
    } finally {
      clearTimeout(this.#timer);
      this.#session.close();
      this.#console.on("error", () => {}); // nobody looks any more
      this.#console.destroy();
    }
  }

  async #obey(command: Command): Promise<void> {
    const say = (text: string) => process.stderr.write(`\r\n[v2m] ${text}\r\n`);
    const [v3m, name] = [this.#v3m, this.#name];
    try {
      switch (command) {
        case "help":
          process.stderr.write(HELP);
          return;
        case "detach":
          this.#detach(Exit.OK);
          return;
        case "stop":
          say("asked to power off");
          await v3m.stop(name);
          return;
        case "reset":
          await v3m.reset(name);
          return;
        case "pause":
          if ((await v3m.status(name)).state === "paused") {
            await v3m.resume(name);
            say("resumed");
          } else {
            await v3m.pause(name);
            say("paused: Ctrl-A p resumes");
          }
          return;
        case "stats": {
          const { exits, resident_bytes: resident } = await v3m.stats(name);
          const memory = resident === undefined ? "" : `, ${formatBytes(resident)} resident`;
          say(`${exits ?? "?"} guest-caused exits${memory}`);
        }
      }
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    }
  }
}

/** @returns 0 where it was detached or the machine has ended */
export async function attachConsole(name: string, flags: ConsoleFlags): Promise<number> {
  const idleMs = flags.idle === undefined ? undefined : parseDuration(flags.idle, "--idle");
  if (flags.json === true && idleMs === undefined) {
    throw new UsageError("--json needs an end", "give --idle TIME too");
  }
  const v3m = openFront(flags);
  const [vm = name] = v3m.select([name]);
  using interrupt = new Interrupt();
  const console = await v3m.console(vm, { signal: interrupt.signal });
  if (flags.json === true) return await collect(vm, console, idleMs ?? 0);
  if (process.stdin.isTTY === true)
    process.stderr.write(`[v2m] ${vm}: Ctrl-A d detaches, Ctrl-A h helps\r\n`);
  return await new Attachment(v3m, vm, console, idleMs).run(interrupt);
}

/** What is said until nothing is for so long, as one document. */
async function collect(name: string, console: Duplex, idleMs: number): Promise<number> {
  const chunks: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    let timer = setTimeout(resolve, idleMs);
    console.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      clearTimeout(timer);
      timer = setTimeout(resolve, idleMs);
    });
    console.once("end", resolve);
    console.once("error", reject);
  });
  console.destroy();
  const { sayJson } = await import("./output.js");
  sayJson({ name, output: Buffer.concat(chunks).toString("utf8") });
  return Exit.OK;
}
