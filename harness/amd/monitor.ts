/** A client for QEMU's monitor protocol (QMP), as small as saving a machine needs it. */
import type { Duplex } from "node:stream";
import { onLine } from "./lines.js";

interface Reply {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

export class Monitor {
  readonly #channel: Duplex;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];

  private constructor(channel: Duplex) {
    this.#channel = channel;
    onLine(channel, (line) => {
      const reply = JSON.parse(line) as Reply;
      // Anything else is the greeting or an event.
      if (!("return" in reply) && !reply.error) return;
      const waiter = this.#waiting.shift();
      if (reply.error) waiter?.reject(new Error(`QEMU: ${reply.error.desc}`));
      else waiter?.resolve(reply.return);
    });
    channel.on("close", () => {
      for (const waiter of this.#waiting.splice(0)) waiter.reject(new Error("QEMU closed its monitor"));
    });
  }

  static async open(channel: Duplex): Promise<Monitor> {
    const monitor = new Monitor(channel);
    await monitor.execute("qmp_capabilities");
    return monitor;
  }

  execute(command: string, args?: Record<string, unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#channel.write(`${JSON.stringify({ execute: command, ...(args ? { arguments: args } : {}) })}\n`);
    });
  }
}
