// SPDX-License-Identifier: Apache-2.0
/** One round of one contender: boot it, run fio on its second disk, iperf3 and sockperf over its network. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { type Contender, type Files, type Running, type Scratch, TAP } from "./contenders.js";

/** What one test gave: how much or how long, and guest-caused exits for each operation. */
export interface Figure {
  readonly value: number;
  readonly exits: number;
}

export interface Test {
  readonly name: string;
  readonly unit: string;
  /** More is better, or less. */
  readonly better: "more" | "less";
  /** What an operation is, of which exits are counted. */
  readonly operation: string;
  run(running: Running): Promise<Figure>;
}

export type Round = Readonly<Record<string, Figure>>;

const HOST_ADDRESS = "192.168.91.1";
const GUEST_ADDRESS = "192.168.91.2";
const IN_IMAGE = "chroot /mnt";

/** Output and operations of a command, and the exits that it caused. */
interface Counted<R> {
  readonly result: R;
  readonly exits: number;
}

/**
 * Exits for each operation: of a long run less those of a short one, so that what a program costs to start and to end
 * does not count.
 */
async function perOperation<R>(
  running: Running,
  command: (seconds: number) => string,
  seconds: number,
  parse: (text: string) => { readonly result: R; readonly operations: number },
): Promise<Counted<R>> {
  const once = async (time: number) => {
    const before = running.exits();
    const parsed = parse(await running.guest.run(command(time)));
    return { ...parsed, exits: running.exits() - before };
  };
  const brief = await once(1);
  const long = await once(1 + seconds);
  return {
    result: long.result,
    exits: (long.exits - brief.exits) / Math.max(1, long.operations - brief.operations),
  };
}

/** The first JSON object in a text. */
function json<T>(text: string): T {
  const from = text.indexOf("{");
  const to = text.lastIndexOf("}");
  if (from < 0 || to < from) throw new Error(`no JSON from the guest:\n${text.slice(-1000)}`);
  return JSON.parse(text.slice(from, to + 1)) as T;
}

interface FioSide {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
  /** Submission included: where vCPU and I/O thread share a CPU, a request may be done when that returns. */
  readonly lat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}
interface FioReport {
  readonly jobs: readonly { readonly read: FioSide; readonly write: FioSide }[];
}

function fio(
  name: string,
  unit: "IOPS" | "MB/s" | "µs",
  options: { rw: "randread" | "randwrite" | "read" | "write"; bs: string; depth: number; seconds: number },
): Test {
  const command = (seconds: number) =>
    `${IN_IMAGE} fio --name=t --filename=/dev/vdb --ioengine=libaio --direct=1 --time_based --size=192M ` +
    `--rw=${options.rw} --bs=${options.bs} --iodepth=${options.depth} --runtime=${seconds} ` +
    "--randrepeat=1 --lat_percentiles=1 --output-format=json";
  const parse = (text: string) => {
    const job = json<FioReport>(text).jobs[0];
    const side = options.rw.endsWith("read") ? job?.read : job?.write;
    if (side === undefined || side.total_ios === 0) throw new Error(`fio did nothing:\n${text}`);
    const median = (side.lat_ns.percentile?.["50.000000"] ?? 0) / 1000;
    const result = unit === "µs" ? median : unit === "IOPS" ? side.iops : side.bw_bytes / 1e6;
    return { result, operations: side.total_ios };
  };
  return {
    name,
    unit,
    better: unit === "µs" ? "less" : "more",
    operation: "request",
    async run(running) {
      const { result, exits } = await perOperation(running, command, options.seconds, parse);
      return { value: result, exits };
    },
  };
}

interface IperfReport {
  readonly end: {
    readonly sum_received: { readonly bits_per_second: number; readonly bytes: number };
  };
}

function iperf(name: string, reverse: boolean, seconds: number): Test {
  return {
    name,
    unit: "Mbit/s",
    better: "more",
    operation: "64 KiB",
    async run(running) {
      const { result, exits } = await perOperation(
        running,
        (time) => `${IN_IMAGE} iperf3 -c ${HOST_ADDRESS} -t ${time} -J${reverse ? " -R" : ""}`,
        seconds,
        (text) => {
          const { bits_per_second: rate, bytes } = json<IperfReport>(text).end.sum_received;
          return { result: rate / 1e6, operations: bytes / 65536 };
        },
      );
      return { value: result, exits };
    },
  };
}

function sockperf(seconds: number): Test {
  return {
    name: "UDP ping-pong, 64 bytes",
    unit: "µs",
    better: "less",
    operation: "round trip",
    async run(running) {
      const { result, exits } = await perOperation(
        running,
        (time) => `${IN_IMAGE} sockperf ping-pong -i ${HOST_ADDRESS} -p 11111 -t ${time} -m 64 2>&1`,
        seconds,
        (text) => {
          const median = /percentile 50\.000\s*=\s*([\d.]+)/.exec(text)?.[1];
          const messages = /ReceivedMessages=(\d+)/.exec(text)?.[1];
          if (median === undefined || messages === undefined) throw new Error(`sockperf:\n${text}`);
          // It gives half of a round trip.
          return { result: 2 * Number(median), operations: Number(messages) };
        },
      );
      return { value: result, exits };
    },
  };
}

export function tests(quick: boolean): readonly Test[] {
  const seconds = quick ? 2 : 5;
  return [
    fio("random read 4 KiB, depth 1", "µs", { rw: "randread", bs: "4k", depth: 1, seconds }),
    fio("random read 4 KiB, depth 16", "IOPS", { rw: "randread", bs: "4k", depth: 16, seconds }),
    fio("random write 4 KiB, depth 1", "µs", { rw: "randwrite", bs: "4k", depth: 1, seconds }),
    fio("random write 4 KiB, depth 16", "IOPS", { rw: "randwrite", bs: "4k", depth: 16, seconds }),
    fio("read 256 KiB, depth 4", "MB/s", { rw: "read", bs: "256k", depth: 4, seconds }),
    fio("write 256 KiB, depth 4", "MB/s", { rw: "write", bs: "256k", depth: 4, seconds }),
    iperf("TCP, guest to host", false, seconds),
    iperf("TCP, host to guest", true, seconds),
    sockperf(seconds),
  ];
}

/** The host's end of the network: a tap device that stays, and the servers behind it. */
export class HostNetwork implements Disposable {
  readonly #servers: readonly ChildProcess[];

  constructor() {
    const ip = (...args: string[]) => execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
    ip("tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr");
    ip("addr", "add", `${HOST_ADDRESS}/24`, "dev", TAP);
    ip("link", "set", TAP, "up");
    ip("link", "set", "lo", "up");
    this.#servers = [
      spawn("iperf3", ["-s", "-B", HOST_ADDRESS], { stdio: "ignore" }),
      spawn("sockperf", ["server", "-i", HOST_ADDRESS, "-p", "11111"], { stdio: "ignore" }),
    ];
  }

  [Symbol.dispose](): void {
    for (const server of this.#servers) server.kill("SIGKILL");
    execFileSync("ip", ["link", "del", TAP], { stdio: "ignore" });
  }
}

/** Boot a contender and put it through all tests. */
export async function measure(
  contender: Contender,
  files: Files,
  scratch: Scratch,
  list: readonly Test[],
  say: (text: string) => void,
): Promise<Round> {
  await using running = await contender.boot(files, scratch);
  const { guest } = running;
  await guest.ready();
  await guest.run("mkdir -p /mnt; mount -o ro /dev/vda1 /mnt");
  await guest.run("mount --bind /dev /mnt/dev; mount --bind /proc /mnt/proc; mount -t tmpfs tmpfs /mnt/tmp");
  await guest.run(`ip addr add ${GUEST_ADDRESS}/24 dev eth0; ip link set eth0 up`);
  const round: Record<string, Figure> = {};
  for (const test of list) {
    const figure = await test.run(running);
    round[test.name] = figure;
    say(
      `${contender.label}: ${test.name}: ${figure.value.toFixed(1)} ${test.unit}, ` +
        `${figure.exits.toFixed(2)} exits a ${test.operation}`,
    );
  }
  return round;
}
