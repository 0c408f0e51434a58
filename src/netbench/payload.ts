// SPDX-License-Identifier: Apache-2.0
/** `shm` between tiny guests (program/payload.asm), which measure in ring 3. A pair lives for one measurement. */
import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { V3mError } from "../errors.js";
import { LOAD_ADDRESS, setParameter } from "../measure/payload.js";
import { packageRoot } from "../package-root.js";
import { Channel } from "../vmm/channel.js";
import { hostFacts } from "../vmm/host.js";
import { Machine } from "../vmm/machine.js";
import type { Contender, Outcome } from "./contender.js";
import { countersOf, outcomeOf } from "./counters.js";
import { TESTS } from "./names.js";
import type { Request } from "./plan.js";
import { limitSeconds, type Sample } from "./program.js";

/** What both poll is in the common section. */
const CHANNEL = { peers: 2, areaBytes: 1 << 20, commonBytes: 64 << 10 } as const;
const MEMORY_BYTES = 16 << 20;
/** As payload.asm and measure.h have them. */
const RESULT = { address: 0x30_0000, bytes: 80, magic: 0x3168_636e_6562_746en };
const TEST_CODES = { latency: 1, stream: 2, both: 3 } as const;

function image(test: number, bytes: number, ticks: number): Buffer {
  const path = join(packageRoot(), "native/build/release/netbench.bin");
  if (!existsSync(path)) throw new V3mError("E_IO", `${path} is not there`, { hint: "make build builds it" });
  const kernel = readFileSync(path);
  for (const [index, value] of [test, bytes, ticks].entries()) setParameter(kernel, index, value);
  return kernel;
}

/** What the leading guest left in its memory. */
export function readResult(memory: Buffer, khz: number): Sample {
  const word = (index: number) => Number(memory.readBigUInt64LE(8 * index));
  if (memory.readBigUInt64LE(0) !== RESULT.magic || memory.readBigInt64LE(8) !== 0n) {
    throw new V3mError("E_GUEST", "a guest did not measure", {
      hint: `it left: ${memory.subarray(0, 16).toString("hex")}`,
    });
  }
  const noRoundTrip = memory.readBigUInt64LE(40) === 2n ** 64n - 1n;
  return {
    count: word(2),
    ticks: word(3),
    total: word(4),
    shortest: noRoundTrip ? 0 : word(5),
    p50: word(6),
    p99: word(7),
    p999: word(8),
    longest: word(9),
    khz,
    cpu: 0,
  };
}

class PayloadPair {
  readonly machines: readonly [Machine, Machine];
  readonly #channel: Channel;

  private constructor(channel: Channel, machines: readonly [Machine, Machine]) {
    this.#channel = channel;
    this.machines = machines;
  }

  static async create(kernel: Buffer, pair: number): Promise<PayloadPair> {
    const channel = Channel.create(CHANNEL);
    const cores = cpus().length;
    const make = (peer: number) =>
      Machine.create({
        kernel,
        kind: "flat64",
        loadAddress: LOAD_ADDRESS.flat64,
        memory: MEMORY_BYTES,
        pin: [(2 * pair + peer) % cores],
        shm: [{ channel, peer }],
      });
    const first = await make(0);
    return new PayloadPair(channel, [first, await make(1)]);
  }

  /** To the end of both. */
  async run(timeoutMs: number): Promise<void> {
    for (const machine of this.machines) machine.console.resume();
    for (const machine of this.machines) machine.start();
    await Promise.all(this.machines.map((machine) => machine.wait(timeoutMs)));
  }

  sample(khz: number): Sample {
    return readResult(this.machines[0].memory.read(RESULT.address, RESULT.bytes), khz);
  }

  async dispose(): Promise<void> {
    for (const machine of this.machines) await machine.dispose();
    this.#channel.close();
  }
}

async function run(request: Request): Promise<Outcome> {
  const khz = Number(hostFacts().tsc_khz);
  const { test, bytes, ns } = request;
  const kernel = image(TEST_CODES[test], bytes, Math.round((ns * khz) / 1e6));
  const pairs: PayloadPair[] = [];
  try {
    for (let pair = 0; pair < request.pairs; pair++) pairs.push(await PayloadPair.create(kernel, pair));
    const before = countersOf([]);
    await Promise.all(pairs.map((pair) => pair.run(limitSeconds(request) * 1000)));
    const samples = pairs.map((pair) => pair.sample(khz));
    const machines = pairs.flatMap((pair) => pair.machines);
    return outcomeOf(samples, before, countersOf(machines.map((machine) => machine.kvmStats())));
  } finally {
    for (const pair of pairs) await pair.dispose();
  }
}

export function payloadPath(): Contender {
  return {
    id: "shm",
    kind: "path",
    tests: TESTS,
    commands: () => ["native/build/release/netbench.bin in two machines of 16 MiB"],
    refusal({ pairs, wait }) {
      if (wait === "interrupt") return "payload guests only poll";
      return 2 * pairs <= cpus().length ? undefined : `polling takes a core for each of ${2 * pairs} guests`;
    },
    run,
  };
}
