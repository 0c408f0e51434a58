// SPDX-License-Identifier: Apache-2.0
/** What guests say. */
import type { Duplex } from "node:stream";

/** Until the console has said it, from now on. @throws Error where it ends before */
export function said(stream: Duplex, text: string): Promise<void> {
  let all = "";
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      all += chunk.toString("latin1");
      if (!all.includes(text)) return;
      stream.off("data", onData);
      resolve();
    };
    stream.on("data", onData);
    stream.once("close", () => reject(new Error(`the console ended before ${text}: ${all.slice(-500)}`)));
  });
}
