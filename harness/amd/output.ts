/** Carries one output stream of the machine to where it belongs, up to the token that ends it. */
import type { Duplex, Writable } from "node:stream";
import { EndMarker } from "./end-marker.js";

/** Resolves when the token was read and all bytes before it were accepted by `target`. Never rejects. */
export function carryOutput(source: Duplex, target: Writable, token: string): Promise<void> {
  return new Promise((resolve) => {
    const marker = new EndMarker(token);
    source.on("data", (chunk: Buffer) => {
      if (marker.seen) return;
      const data = marker.push(chunk);
      const finish = marker.seen ? () => resolve() : undefined;
      if (data.length === 0) {
        finish?.();
        return;
      }
      // The callback also comes if the target failed; whoever owns the target watches for that.
      if (!target.write(data, finish)) {
        source.pause();
        target.once("drain", () => source.resume());
      }
    });
    // The machine died in mid-stream: what is held back cannot be the token.
    source.on("end", () => {
      if (!marker.seen && marker.rest().length > 0) target.write(marker.rest());
    });
  });
}
