// SPDX-License-Identifier: Apache-2.0
/**
 * How to add a device, in TypeScript: a memory-mapped adder, and a guest of 30 bytes that uses it.
 * docs/how-to/add-a-device.md explains it step by step; adder.c is the same in C.
 *
 * After `make build`: node dist/examples/adder.js
 */
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { type Device, Machine } from "../src/vmm/index.js";

/** Where the guest finds it: behind RAM, below the devices that every machine has. */
const ADDER_GPA = 0xd800_0000;
/** Registers, each of 8 bytes. */
const SUM = 0;
const COUNT = 8;

export class Adder implements Device {
  readonly name = "adder";
  readonly space = "mmio";
  readonly base = ADDER_GPA;
  readonly bytes = 16;
  sum = 0n;
  count = 0n;

  /** A guest may send anything: what is no register reads as all ones and is not written. */
  read(offset: number, bytes: number): bigint {
    if (bytes !== 8) return -1n;
    return offset === SUM ? this.sum : offset === COUNT ? this.count : -1n;
  }

  write(offset: number, value: number | bigint, bytes: number): void {
    if (bytes !== 8) return;
    if (offset === SUM) {
      this.sum = BigInt.asUintN(64, this.sum + BigInt(value));
      this.count += 1n;
    } else if (offset === COUNT) {
      this.sum = 0n;
      this.count = 0n;
    }
  }
}

/** 64-bit code: adds 10, 9 … 1, then powers off. adder.c has it in assembly. */
const GUEST = Buffer.from("bf000000d8b90a00000048890fffc975f9b03466ba0006eef4", "hex");

export async function runAdder(): Promise<Adder> {
  const adder = new Adder();
  const memory = 2 << 20;
  await using machine = await Machine.create({
    kernel: GUEST,
    kind: "flat64",
    loadAddress: 0x10_0000,
    memory,
  });
  machine.addDevice(adder);
  machine.start();
  await once(machine, "stop");
  return adder;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { count, sum } = await runAdder();
  console.log(`${count} additions, sum ${sum}`);
}
