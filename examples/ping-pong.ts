// SPDX-License-Identifier: Apache-2.0
/**
 * Two machines pass a word back and forth through shared memory, without an exit and without a system call of the
 * host: docs/how-to/connect-vms-by-shm.md. Their guest is firmware/payloads/shm.asm in its mode 3, which measures.
 *
 * After `make build`: node dist/examples/ping-pong.js [ROUND TRIPS]
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { packageRoot } from "../src/package-root.js";
import { Channel, hostFacts, Machine, type MachineOptions } from "../src/vmm/index.js";

/** Parameters of the guest, 8 bytes each, stand behind the header of its image. */
const PARAMETERS = 16;
const MODE_MEASURE = 3n;

function guest(roundTrips: number): MachineOptions {
  const kernel = readFileSync(join(packageRoot(), "firmware/build/shm.bin"));
  kernel.writeBigUInt64LE(MODE_MEASURE, PARAMETERS);
  kernel.writeBigUInt64LE(BigInt(roundTrips), PARAMETERS + 8);
  return { kernel, kind: "flat64", loadAddress: 0x10_0000, memory: 16 << 20 };
}

/** @returns nanoseconds from a word to its answer; short only where each machine has a CPU of its own */
export async function pingPong(roundTrips: number): Promise<number> {
  // The word is in a section that both write: on some processors it comes over faster there.
  using channel = Channel.create({ peers: 2, areaBytes: 4096, commonBytes: 4096 });
  await using ping = await Machine.create({ ...guest(roundTrips), shm: [{ channel, peer: 0 }] });
  await using pong = await Machine.create({ ...guest(roundTrips), shm: [{ channel, peer: 1 }] });
  const said = [ping, pong].map((machine) => {
    machine.start();
    return text(machine.console);
  });
  const [first = ""] = await Promise.all(said);
  const ticks = Number(/shm: ticks (\d+)\n/.exec(first)?.[1]);
  return (ticks * 1e6) / Number(hostFacts().tsc_khz) / roundTrips;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const roundTrips = Number(process.argv[2] ?? 100_000);
  console.log(`${roundTrips} round trips, ${Math.round(await pingPong(roundTrips))} ns each`);
}
