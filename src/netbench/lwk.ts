// SPDX-License-Identifier: Apache-2.0
/** `shm` between guests of the lightweight kernel: the measuring program launched as by `v2m yod`, anew each time. */
import { cpus } from "node:os";
import { V3mError } from "../errors.js";
import { capture } from "../measure/capture.js";
import { Channel } from "../vmm/channel.js";
import type { KvmStats } from "../vmm/stats.js";
import type { Contender, Outcome } from "./contender.js";
import { countersOf, outcomeOf } from "./counters.js";
import { CHANNEL } from "./links.js";
import { TESTS } from "./names.js";
import type { Request } from "./plan.js";
import { limitSeconds, parseSample, program, requestWords, type Sample } from "./program.js";

export const MEMORY_MIB = 64;
const GRACE_MS = 60_000;

/** Of the leader, which is peer 0, and of the follower. */
function words(request: Request): readonly [string[], string[]] {
  const both = ["via=shm", `wait=${request.wait}`];
  return [
    [...both, "role=lead", "partner=1", ...requestWords(request)],
    [...both, "role=follow", "partner=0", `limit=${limitSeconds(request)}`],
  ];
}

async function runPair(request: Request, pair: number): Promise<{ sample: Sample; kvm: KvmStats[] }> {
  using channel = Channel.create(CHANNEL);
  const cores = cpus().length;
  const [leader, follower] = await Promise.all(
    words(request).map((args, peer) =>
      capture({
        app: program(),
        args,
        memory: MEMORY_MIB << 20,
        shm: { channel, peer },
        timeoutMs: limitSeconds(request) * 1000 + GRACE_MS,
        ...(cores < 2 ? {} : { pin: [(2 * pair + peer) % cores] }),
      }),
    ),
  );
  const kvm = [leader, follower].map((side) => side?.outcome.statistics.kvm);
  if (leader === undefined || kvm.some((stats) => !stats)) {
    throw new V3mError("E_UNSUPPORTED", "this host's KVM counts no exits", { hint: "Linux 5.14 or later" });
  }
  return { sample: parseSample(leader.stdout), kvm: kvm as KvmStats[] };
}

async function run(request: Request): Promise<Outcome> {
  const before = countersOf([]);
  const pairs = Array.from({ length: request.pairs }, (_, pair) => pair);
  const all = await Promise.all(pairs.map((pair) => runPair(request, pair)));
  const after = countersOf(all.flatMap(({ kvm }) => kvm));
  return outcomeOf(
    all.map(({ sample }) => sample),
    before,
    after,
  );
}

export function lwkPath(): Contender {
  let started = false;
  return {
    id: "shm",
    kind: "path",
    tests: TESTS,
    commands: (request) =>
      words(request).map(
        (args, peer) => `netbench ${args.join(" ")} # on the lightweight kernel, peer ${peer}`,
      ),
    refusal: () => undefined,
    async run(request) {
      // The first start of all costs this process more than others: it is nobody's.
      if (!started) await run({ ...request, ns: 0 });
      started = true;
      return await run(request);
    },
  };
}
