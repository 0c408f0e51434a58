// SPDX-License-Identifier: Apache-2.0
/**
 * An adaptation module, in TypeScript: put into a running machine and taken out again.
 * docs/how-to/add-a-device.md explains it step by step; tally.c is the same in C.
 *
 *   device     two 32-bit ports: BASE counts what is written to it (read: the sum), BASE + 4 reads
 *              how many port accesses the guest has made since the module came
 *   hypercall  0x100: adds its first two arguments
 *   exit hook  counts port accesses, and lets them pass
 *
 * Its argument is port=N (default 0x510). After `make build`:
 *   npx v2m run --kernel … --module dist/examples/tally.js,port=0x520
 */
import type { AdaptationModule, Device, ModuleHost } from "../src/vmm/index.js";

const DEFAULT_PORT = 0x510;
const HYPERCALL_ADD = 0x100;
/** Registers, each of 4 bytes. */
const SUM = 0;
const ACCESSES = 4;

function portOf(args: string): number {
  const port = args === "" ? DEFAULT_PORT : Number(/^port=(0x[0-9a-f]+|\d+)$/i.exec(args)?.[1]);
  if (Number.isNaN(port)) throw new Error("the only argument is port=N");
  return port;
}

export class Tally implements AdaptationModule {
  readonly name = "tally";
  readonly version = "1.0";
  sum = 0;
  accesses = 0;
  detached = 0;

  async attach(host: ModuleHost): Promise<void> {
    const device: Device = {
      name: "tally",
      space: "pio",
      base: portOf(host.args),
      bytes: 8,
      // A guest may send anything: what is no register reads as all ones and is not written.
      read: (offset, bytes) =>
        bytes !== 4 ? -1 : offset === SUM ? this.sum : offset === ACCESSES ? this.accesses : -1,
      write: (offset, value, bytes) => {
        if (bytes === 4 && offset === SUM) this.sum = (this.sum + Number(value)) >>> 0;
      },
    };
    await host.addDevice(device);
    await host.addHypercall(HYPERCALL_ADD, ({ args: [a = 0n, b = 0n] }) => a + b);
    await host.addExitHook(
      ({ count }) => {
        this.accesses = (this.accesses + count) >>> 0;
        return "pass";
      },
      ["io"],
    );
  }

  reset(): void {
    this.sum = 0;
    this.accesses = 0;
  }

  /** Nothing above is called any more. */
  detach(): void {
    this.detached++;
  }
}

export default new Tally();
