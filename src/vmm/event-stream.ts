// SPDX-License-Identifier: Apache-2.0
/** The machine's event socket as records. */
import { Socket } from "node:net";
import { type Event, VmmhpcEvent } from "../ffi/index.js";

/**
 * Read records until the machine closes its end. The socket keeps the process alive, as a running machine
 * should; `unref` it to change that.
 */
export function readEvents(fd: number, onEvent: (event: Event) => void): Socket {
  const socket = new Socket({ fd, readable: true, writable: false });
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    const data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    for (; at + VmmhpcEvent.size <= data.length; at += VmmhpcEvent.size) {
      onEvent(VmmhpcEvent.decode(data, at));
    }
    rest = data.subarray(at);
  });
  socket.on("error", () => socket.destroy()); // the state itself can always be asked for
  return socket;
}
