// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:shm`: messages between two guests by a channel, beside two processes of this host by shared memory,
 * all by the same instructions (firmware/payloads/pingpong.inc) in user mode, each on a CPU of its own. Alternated in
 * one run. The processes once with the protection that a channel has, by which each may only read the other's area, and
 * once without: on some processors the protection itself costs something. So all of it with the numbers that are polled
 * in a common section, and with them in areas. Where guests' user mode runs natively: on any usable /dev/kvm, but not in
 * an emulated machine.
 */
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { join } from "node:path";
import { environment } from "../src/measure/environment.js";
import { packageRoot } from "../src/package-root.js";
import { Channel, hostFacts, Machine } from "../src/vmm/index.js";
import { finish, guest } from "../test/support/machines.js";
import { readOptions } from "./lib/options.js";
import { Results } from "./lib/results.js";
import { describe, type Floor, picture, type Row, ratiosOf, type ShmResult } from "./shm/result.js";

const USAGE = `usage: npm run bench:shm -- [--rounds N | --quick] [--results DIR]
  --rounds N     alternated rounds, after one that warms up (default 20)
  --quick        3 rounds
  --results DIR  where bench-shm.json and bench-shm.svg go (default: results)
`;
const MIB = 2 ** 20;
const ROUNDS = 20;
const MODE_MEASURE = 3;
const CODE = join(packageRoot(), "firmware/build/pingpong.host");
const FLOOR = join(packageRoot(), "native/build/release/shm-floor");

/** What is measured: 8 bytes are the number that every message has. */
const SIZES = [
  { bytes: 8, data: 0, messages: 100_000 },
  { bytes: MIB, data: MIB, messages: 100 },
] as const;
/** Of the section that all may write, in which numbers are. */
const COMMON = [4096, 0] as const;
const CASES = COMMON.flatMap((commonBytes) => SIZES.map((size) => ({ ...size, commonBytes })));
type Case = (typeof CASES)[number];

/** Of each side, as in shm-floor.c: a number and its data, in whole pages. */
const areaBytes = (data: number) => Math.ceil((64 + data) / 4096) * 4096;

/** Ticks of all messages between two guests. */
async function guests({ data, messages, commonBytes }: Case): Promise<number> {
  using channel = Channel.create({ peers: 2, areaBytes: areaBytes(data), commonBytes });
  const make = (peer: number) =>
    Machine.create(
      guest(
        "shm",
        { mode: MODE_MEASURE, count: messages, bytes: data },
        { pin: [peer], shm: [{ channel, peer }] },
      ),
    );
  await using first = await make(0);
  await using second = await make(1);
  const [run] = await Promise.all([finish(first), finish(second)]);
  const ticks = Number(/shm: ticks (\d+)\n/.exec(run.output)?.[1]);
  if (!(ticks > 0)) throw new Error(`the guest said ${JSON.stringify(run.output)}`);
  return ticks;
}

/** Likewise between two processes. */
function processes({ data, messages, commonBytes }: Case, floor: Floor): number {
  const writes = floor === "protected" ? "own" : "all";
  const words = commonBytes > 0 ? "common" : "areas";
  const args = [CODE, `${messages}`, `${data}`, writes, words, "0", "1"];
  return Number(execFileSync(FLOOR, args, { encoding: "utf8" }).trim());
}

const options = readOptions(USAGE, []);
const rounds = options.args.some((arg) => arg.startsWith("--rounds") || arg === "--quick")
  ? options.rounds
  : ROUNDS;
if (cpus().length < 2) {
  process.stderr.write("bench:shm needs two CPUs: each side polls\n");
  process.exit(1);
}
const results = new Results(options.results, "shm");
const tscKHz = Number(hostFacts().tsc_khz);
const rows = CASES.map(({ bytes, messages, commonBytes }) => ({
  bytes,
  messages,
  commonBytes,
  guests: [] as number[],
  protected: [] as number[],
  host: [] as number[],
}));
const order = ["guests", "protected", "host"] as const;
for (let round = 0; round <= rounds; round++) {
  for (const [index, one] of CASES.entries()) {
    const nanoseconds = (ticks: number) => (ticks * 1e6) / tscKHz / one.messages;
    for (const who of round % 2 === 0 ? order : order.toReversed()) {
      const measured = nanoseconds(who === "guests" ? await guests(one) : processes(one, who));
      if (round > 0) rows[index]?.[who].push(measured);
    }
  }
}
const result: ShmResult = {
  schema: "v3m-bench-shm/3",
  machine: environment(),
  rounds,
  tscKHz,
  rows: rows satisfies readonly Row[],
  ratios: rows.map(ratiosOf),
};
results.writeJson(result);
results.writeSvg(picture(result));
process.stdout.write(`${describe(result)}\n\n${results.path("json")}\n${results.path("svg")}\n`);
