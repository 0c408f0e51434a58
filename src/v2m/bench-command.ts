// SPDX-License-Identifier: Apache-2.0
/** The verb `bench` on the command line. What does the work is loaded when it is asked for. */
import { type Command, Option } from "commander";
import { GUESTS, PATHS } from "../netbench/names.js";
import { type Finish, verb } from "./command.js";

const HELP = `
Measures each way between two guests: ping-pong latency (median, 99th, 99.9th percentile), messages
one way and both ways at once, exits and interrupts that guests caused for each message, CPU time
of the host for each byte. The floors are measured in the same run, by the same program: two host
processes by shared memory (that both may write, and protected as guests' is) and by loopback TCP,
and memcpy.

Paths: tap (a tap device each, in a bridge), vhost (the same, moved by the host's vhost-net), user
(passt), shm (a channel of shared memory, past the hypervisor), rdma (verbs by soft-RoCE over a tap
device each, measured by perftest), vfio (two network cards of this host's, named by --vfio). One that cannot be had here is skipped, with the reason in
table and JSON; if none can, the command fails.
Guests: linux; lwk (the lightweight kernel, shm only); payload (not rdma and vfio: tiny guests that
need no virtualization hardware, and a core each). Where the guests cannot run on this host's KVM,
all of it runs in the nested machine, floors included: times are an emulator's there, exits are what
counts.

With --out: bench-net.json, bench-net.txt, latency.svg, bandwidth.svg, and report.html with all of it.

Exit codes: 0 measured; 1 a measurement failed; 2 wrong option; 4 guests or paths cannot be had
here; 5 the files cannot be written; 130, 143 interrupted: nothing is left behind.
`;

/** As commander gives them. */
export interface BenchNetFlags {
  readonly paths: string;
  readonly guests: string;
  readonly sizes?: string;
  readonly duration: string;
  readonly pairs: string;
  readonly rounds: string;
  readonly wait: string;
  readonly vfio?: string;
  readonly out?: string;
  readonly json?: boolean;
}

/** Adds the verb to the program. @param finish is told the exit code */
export function addBenchCommand(program: Command, finish: Finish): void {
  const bench = verb(program, {
    name: "bench",
    description: "Measure what guests get of this host: net (networks between guests).",
    help: "\nEvery benchmark takes --json.\n",
    examples: ["v2m bench net --paths tap,vhost,user,shm --out results", "v2m bench net --help"],
  });
  verb(bench, {
    name: "net",
    description: "Latency, bandwidth, exits and CPU time of the networks between guests, with plots.",
    help: HELP,
    examples: [
      "v2m bench net --guests payload --paths shm --sizes 8,1M --rounds 20",
      "v2m bench net --paths tap,vhost,user,shm --sizes 8,64K --duration 500ms --out results",
      "v2m bench net --guests lwk --json | jq '.series[] | {id, test, bytes, rounds}'",
    ],
  })
    .option("--paths <list>", PATHS.join(", "), PATHS.join(","))
    .addOption(new Option("--guests <kind>", "at both ends").choices(GUESTS).default("linux"))
    .option("--sizes <list>", "of messages: 8, 4K, 1M … up to 4M (default: 8 bytes to 4 MiB)")
    .option("--duration <time>", "of each measurement: seconds, or 500ms, 1m", "1")
    .option("--pairs <list>", "pairs of guests that talk at once: 1, or 1,2,4", "1")
    .option("--rounds <n>", "alternated rounds, whose medians are shown", "3")
    .addOption(
      new Option("--wait <how>", "for messages by shared memory or verbs; auto: poll where each has a core")
        .choices(["poll", "interrupt", "auto"])
        .default("auto"),
    )
    .option("--vfio <list>", "two PCI functions on one network, of the leader and of the follower")
    .option("--out <dir>", "write JSON, table, plots and report there")
    .option("--json", "as one line of JSON")
    .action(async (flags: BenchNetFlags) => {
      const { benchNet } = await import("./bench-net.js");
      finish(await benchNet(flags));
    });
}
