// SPDX-License-Identifier: Apache-2.0
/**
 * For tests that kill it: a machine that is saved again and again, every second time compressed,
 * `node dist/test/support/snapshot-loop.js DIRECTORY`.
 */
import { join } from "node:path";
import { Machine } from "../../src/vmm/index.js";
import { guest, Transcript } from "./machines.js";

const [directory = "."] = process.argv.slice(2);
const machine = await Machine.create(guest("echo"));
const transcript = new Transcript(machine);
machine.start();
await transcript.until("echo: ready\n");
for (let i = 0; ; i++) {
  await machine.snapshot(join(directory, `s${process.pid}-${i}`), { compress: i % 2 === 1 });
  process.stdout.write(`${i}\n`);
}
