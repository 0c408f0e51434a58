// SPDX-License-Identifier: Apache-2.0
/** Attaching to a channel of a supervised program: what was kept, then the rest. */
import { connect } from "node:net";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { V3mError } from "../../errors.js";
import { readRing } from "./ring.js";

export interface AttachOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * The channel as a stream: output kept since the start, then live, without a gap; it ends with the program. Where the
 * program has ended, what was kept, and the end. Several may attach; destroying the stream detaches.
 * @throws V3mError E_STATE where nothing was ever started in this directory
 */
export async function attach(directory: string, name: string, options: AttachOptions = {}): Promise<Duplex> {
  options.signal?.throwIfAborted();
  const live = await connected(join(directory, `${name}.sock`), options.signal);
  if (live !== undefined) return live;
  const kept = await readRing(join(directory, `${name}.ring`));
  if (kept === undefined) {
    throw new V3mError("E_STATE", `nothing was started yet that had a ${name}`, { hint: "start it first" });
  }
  let told = false;
  return new Duplex({
    read() {
      if (!told && kept.data.length > 0) this.push(kept.data);
      told = true;
      this.push(null);
    },
    write(_chunk, _encoding, done) {
      done(new V3mError("E_CLOSED", "the machine has ended", { hint: "start it" }));
    },
  });
}

/** Undefined where nobody listens. */
function connected(path: string, signal: AbortSignal | undefined): Promise<Duplex | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    const abort = () => socket.destroy(signal?.reason as Error);
    signal?.addEventListener("abort", abort, { once: true });
    socket.once("close", () => signal?.removeEventListener("abort", abort));
    const failed = (cause: NodeJS.ErrnoException) => {
      socket.destroy();
      if (cause.code === "ENOENT" || cause.code === "ECONNREFUSED") resolve(undefined);
      else if (signal?.aborted) reject(signal.reason);
      else reject(new V3mError("E_IO", `cannot attach: ${cause.code ?? cause.message}`, { cause }));
    };
    socket.once("error", failed);
    socket.once("connect", () => {
      socket.off("error", failed);
      resolve(socket);
    });
  });
}
