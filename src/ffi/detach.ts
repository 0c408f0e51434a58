// SPDX-License-Identifier: Apache-2.0
/**
 * Revoking an ArrayBuffer over native memory. `ArrayBuffer.prototype.transfer` detaches the buffer in
 * place: every typed array on it gets length 0 and reads undefined, every DataView access throws a
 * TypeError, and nothing points at the memory any more. Node 22 has it; Node 20's V8 has it behind a flag
 * that a new context obeys, so it is fetched from one. (postMessage and structuredClone cannot do it:
 * Node marks external buffers as untransferable and copies them.)
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

type Transfer = (this: ArrayBuffer, length: number) => ArrayBuffer;

function findTransfer(): Transfer | undefined {
  const own = (ArrayBuffer.prototype as unknown as { transfer?: Transfer }).transfer;
  if (own !== undefined) {
    return own;
  }
  const flag = "harmony-rab-gsab-transfer";
  setFlagsFromString(`--${flag}`);
  try {
    return runInNewContext("ArrayBuffer.prototype.transfer") as Transfer | undefined;
  } finally {
    setFlagsFromString(`--no-${flag}`);
  }
}

let transfer: Transfer | null | undefined;

/** Detach `buffer` from its memory; false where this runtime cannot, and then nothing has changed. */
export function detach(buffer: ArrayBuffer): boolean {
  if (transfer === undefined) {
    try {
      transfer = findTransfer() ?? null;
    } catch {
      transfer = null;
    }
  }
  if (transfer === null) {
    return buffer.byteLength === 0;
  }
  try {
    transfer.call(buffer, 0);
  } catch {
    // Not detachable; byteLength tells.
  }
  return buffer.byteLength === 0;
}
