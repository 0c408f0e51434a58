// SPDX-License-Identifier: Apache-2.0
/** libbypass beside a hostile peer: bypass/fuzz/fuzz_peer.c under libFuzzer, for some seconds. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { bypassBuild } from "../support/bypass.js";
import { expectFuzzed, FUZZ_SECONDS, fuzz, type Target } from "../support/fuzz.js";

const target: Target = {
  covers: { "receive.c": 80, "send.c": 80, "ring.c": 75, "link.c": 85, "onesided.c": 70, "progress.c": 70 },
  maxLength: 2048,
};

/** One step, as fuzz_peer.c reads it. */
function step(what: number, more = 0, small = 0, number = 0, wide = 0n): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt8(what, 0);
  bytes.writeUInt8(more, 1);
  bytes.writeUInt16LE(small, 2);
  bytes.writeUInt32LE(number, 4);
  bytes.writeBigUInt64LE(wide, 8);
  return bytes;
}

/** enum slot_kind; the last part of a put. */
const SLOT = {
  inline: 1,
  eager: 2,
  request: 3,
  clear: 4,
  data: 5,
  direct: 6,
  finished: 7,
  put: 8,
  last: 140,
};
const receive = (bytes: number, tag = 1) => step(0x60, 0, tag, bytes);
const send = (bytes: number) => step(0x60, 1, 1, bytes);
const put = (bytes: number) => step(0x60, 2, 1, bytes);
const expose = step(0x30, 1, 1, 256);
const go = Buffer.concat([step(0xa0), step(0x10), step(0x40)]);
/** The peer's: a slot, and that it has taken all. */
const post = (kind: number, number = 0, wide = 0n) => step(0x71, kind, 0x101, number, wide);
const taken = step(0x31, 5);
const exposed = step(0x21, 5, 1, 4096, 8192n);

/** What an honest peer would do. */
const seeds: readonly (readonly Buffer[])[] = [
  [receive(100), post(SLOT.inline), go, post(SLOT.inline), go, receive(100), taken],
  [receive(5000), post(SLOT.eager, 300, 9000n), go, post(SLOT.eager, 300, 9000n), go, receive(10)],
  [
    receive(5000),
    post(SLOT.request, 4000),
    go,
    post(SLOT.data, 3000, 9000n),
    post(SLOT.data, 1000, 9000n),
    go,
  ],
  [post(SLOT.request, 100), post(SLOT.direct, 100, 9000n), go, receive(200), receive(200), go],
  [
    send(20),
    send(3000),
    taken,
    send(20000),
    go,
    post(SLOT.clear),
    go,
    taken,
    go,
    taken,
    go,
    step(0x50, 0, 1),
  ],
  [step(0x60, 1, 0x19, 9000), go, post(SLOT.finished), go, taken, go],
  [expose, post(SLOT.put, 16, 0x1009000n), post(SLOT.last, 16, 0x1009000n), go, exposed, step(0x20, 60, 1)],
  [put(400), go, taken, go, put(20000), go, taken, go, taken, go],
];

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "v3m-seeds-"));
  await Promise.all(
    seeds.map((steps, i) => writeFile(join(directory, `seed${i}`), Buffer.concat([...steps]))),
  );
});
afterAll(() => rm(directory, { recursive: true, force: true }));

it(
  "a hostile peer gets at nothing but its own area, and stops nobody",
  async () => {
    const program = bypassBuild("fuzz/fuzz_peer");
    const result = await fuzz(program, target, join(packageRoot(), "bypass/"), directory);
    expectFuzzed("peer", target, result);
  },
  FUZZ_SECONDS * 1000 + 120_000,
);
