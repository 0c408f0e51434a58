/** Splits a byte stream into lines of text. */
import type { Readable } from "node:stream";

export function onLine(stream: Readable, deliver: (line: string) => void): void {
  let rest = "";
  stream.on("data", (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) deliver(line.trim());
  });
}
