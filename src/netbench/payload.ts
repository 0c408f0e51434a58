// SPDX-License-Identifier: Apache-2.0
/**
 * Paths between tiny guests (program/payload.asm), which measure in ring 3: a channel, or UDP over a network card. A pair
 * lives for one measurement.
 */
import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { V3mError } from "../errors.js";
import { LOAD_ADDRESS, setParameter } from "../measure/payload.js";
import { packageRoot } from "../package-root.js";
import { Channel } from "../vmm/channel.js";
import { hostFacts } from "../vmm/host.js";
import { Machine } from "../vmm/machine.js";
import type { MachineOptions } from "../vmm/options.js";
import type { Contender, Outcome } from "./contender.js";
import { countersOf, outcomeOf } from "./counters.js";
import {
  address,
  CHANNEL,
  freeUdpPort,
  isNetworkPath,
  joinBridge,
  makeBridge,
  type NetworkPath,
  netOf,
  removeBridge,
  USER_HOST,
} from "./links.js";
import { type PathName, TESTS } from "./names.js";
import type { Request } from "./plan.js";
import { limitSeconds, type Sample } from "./program.js";

const MEMORY_BYTES = 16 << 20;
/** As payload.asm, measure.h and datagram.h have them. */
const RESULT = { address: 0x30_0000, bytes: 80, magic: 0x3168_636e_6562_746en };
const TEST_CODES = { latency: 1, stream: 2, both: 3 } as const;
const UDP_PORT = 5001;

/** The guest's program, and its parameters. */
function image(...parameters: number[]): Buffer {
  const path = join(packageRoot(), "native/build/release/netbench.bin");
  if (!existsSync(path)) throw new V3mError("E_IO", `${path} is not there`, { hint: "make build builds it" });
  const kernel = readFileSync(path);
  for (const [index, value] of parameters.entries()) setParameter(kernel, index, value);
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

/** `10.0.0.1` as datagram.h has it. */
const number = (dotted: string) => Buffer.from(dotted.split(".").map(Number)).readUInt32BE();

async function ended(machine: Machine, timeoutMs: number): Promise<void> {
  let said = "";
  machine.console.on("data", (chunk: Buffer) => {
    said += chunk.toString("latin1");
  });
  await machine.wait(timeoutMs);
  if (said.includes("FAIL")) {
    throw new V3mError("E_GUEST", "a guest could not measure", { hint: said.trim() });
  }
}

/** Two guests; 0 leads. */
class PayloadPair implements AsyncDisposable {
  readonly machines: Machine[] = [];
  readonly #after: (() => void)[] = [];

  /** @param measurement the test's code, bytes of a message, ticks */
  static async create(path: PathName, pair: number, measurement: readonly number[]): Promise<PayloadPair> {
    const made = new PayloadPair();
    try {
      if (isNetworkPath(path)) await made.#connect(path, pair, measurement);
      else await made.#share(pair, measurement);
      return made;
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #share(pair: number, measurement: readonly number[]): Promise<void> {
    const channel = Channel.create(CHANNEL);
    this.#after.push(() => channel.close());
    const kernel = image(...measurement);
    for (const peer of [0, 1]) await this.#add(kernel, pair, { shm: [{ channel, peer }] });
  }

  async #connect(path: NetworkPath, pair: number, measurement: readonly number[]): Promise<void> {
    makeBridge(path, pair);
    this.#after.push(() => removeBridge(path, pair));
    const forward = path === "user" ? await freeUdpPort() : UDP_PORT;
    const follower = path === "user" ? USER_HOST : address(path, pair, 1);
    for (const peer of [0, 1]) {
      const to = peer === 0 ? [number(follower), forward] : [0, 0];
      const kernel = image(...measurement, number(address(path, pair, peer)), ...to);
      const nets = netOf(path, pair, peer, { udp: [{ host: forward, guest: UDP_PORT }] });
      await this.#add(kernel, pair, { nets });
      joinBridge(path, pair, peer);
    }
  }

  async #add(
    kernel: Buffer,
    pair: number,
    devices: Partial<Pick<MachineOptions, "shm" | "nets">>,
  ): Promise<void> {
    const cpu = (2 * pair + this.machines.length) % cpus().length;
    const machine = await Machine.create({
      kernel,
      kind: "flat64",
      loadAddress: LOAD_ADDRESS.flat64,
      memory: MEMORY_BYTES,
      pin: [cpu],
      ...devices,
    });
    this.machines.push(machine);
  }

  /** To the end of both. @throws V3mError E_GUEST as soon as one of them fails */
  async run(timeoutMs: number): Promise<void> {
    for (const machine of this.machines) machine.start();
    await Promise.all(this.machines.map((machine) => ended(machine, timeoutMs)));
  }

  sample(khz: number): Sample {
    const [leader] = this.machines;
    if (leader === undefined) throw new RangeError("no pair");
    return readResult(leader.memory.read(RESULT.address, RESULT.bytes), khz);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const machine of this.machines) await machine.dispose();
    for (const step of this.#after) step();
  }
}

async function run(path: PathName, request: Request): Promise<Outcome> {
  const khz = Number(hostFacts().tsc_khz);
  const { test, bytes, ns } = request;
  const measurement = [TEST_CODES[test], bytes, Math.round((ns * khz) / 1e6)];
  const pairs: PayloadPair[] = [];
  try {
    for (let pair = 0; pair < request.pairs; pair++) {
      pairs.push(await PayloadPair.create(path, pair, measurement));
    }
    const before = countersOf([]);
    await Promise.all(pairs.map((pair) => pair.run(limitSeconds(request) * 1000)));
    const samples = pairs.map((pair) => pair.sample(khz));
    const machines = pairs.flatMap((pair) => pair.machines);
    return outcomeOf(samples, before, countersOf(machines.map((machine) => machine.kvmStats())));
  } finally {
    for (const pair of pairs) await pair[Symbol.asyncDispose]();
  }
}

export function payloadPath(path: PathName): Contender {
  return {
    id: path,
    kind: "path",
    tests: TESTS,
    commands: () => ["native/build/release/netbench.bin in two machines of 16 MiB"],
    refusal({ pairs, wait }) {
      if (wait === "interrupt") return "payload guests only poll";
      return 2 * pairs <= cpus().length ? undefined : `polling takes a core for each of ${2 * pairs} guests`;
    },
    run: (request) => run(path, request),
  };
}
