// SPDX-License-Identifier: Apache-2.0
/** `rdma`: verbs between Linux guests by soft-RoCE over a tap device each, measured by Debian's perftest. */
import type { ShellGuest } from "../measure/shell-guest.js";
import type { Contender, Outcome } from "./contender.js";
import { outcomeOf } from "./counters.js";
import { address } from "./links.js";
import { countersOfPairs, type LinuxPair } from "./linux.js";
import { TESTS } from "./names.js";
import {
  isLongEnough,
  MESSAGES_LEAST,
  messagesFor,
  PERFTEST_PORT,
  paceOf,
  parsePerftest,
  perftestWords,
} from "./perftest.js";
import type { Request } from "./plan.js";
import type { Sample } from "./program.js";
import { RDMA_PATH } from "./rdma-files.js";

/** A measurement whose length was guessed wrong is repeated. */
const ATTEMPTS = 4;
/** What a guest's program printed. */
const OUTPUT = "/tmp/perftest";
const LISTENING = `: 0*:${PERFTEST_PORT.toString(16).toUpperCase()} 0*:0000 0A`;
const POLL_US = 50_000;

/** In the background, until it waits for the leader, or ends. */
async function follow(shell: ShellGuest, command: string): Promise<void> {
  const listens = `grep -q '${LISTENING}' /proc/net/tcp`;
  await shell.run(
    `PATH=${RDMA_PATH} ${command} >${OUTPUT} 2>&1 & ` +
      `until ${listens}; do kill -0 $! || break; usleep ${POLL_US}; done; ${listens} || { cat ${OUTPUT}; false; }`,
  );
}

/** One measurement of so many messages by all pairs. */
async function measure(pairs: readonly LinuxPair[], request: Request, messages: number): Promise<Outcome> {
  const command = perftestWords(request, messages).join(" ");
  await Promise.all(pairs.map(({ shells }) => follow(shells[1], command)));
  const before = countersOfPairs(pairs);
  const samples = await Promise.all(
    pairs.map(async ({ shells: [leader, follower] }, pair): Promise<Sample> => {
      const text = await leader.run(`PATH=${RDMA_PATH} ${command} ${address("rdma", pair, 1)}`);
      await follower.run(`wait $! || { cat ${OUTPUT}; false; }`);
      return parsePerftest(text, request, messages);
    }),
  );
  return outcomeOf(samples, before, countersOfPairs(pairs));
}

/** The path between the given pairs. @param program perftest, by name and version */
export function rdmaPath(pairs: readonly LinuxPair[], program: string): Contender {
  /** Nanoseconds that a message took at last: perftest measures a number of messages, not a time. */
  const paces = new Map<string, number>();
  const keyOf = ({ test, bytes, pairs: many }: Request) => `${test} ${bytes} ${many}`;

  async function run(request: Request): Promise<Outcome> {
    const key = keyOf(request);
    const used = pairs.slice(0, request.pairs);
    const slowest = ({ samples }: Outcome) => Math.max(...samples.map(paceOf));
    // The first one of all is slower than others, and nobody's.
    let pace = paces.get(key) ?? slowest(await measure(used, request, MESSAGES_LEAST));
    for (let attempt = 1; ; attempt++) {
      const outcome = await measure(used, request, messagesFor(request, pace));
      // A brief measurement is all beginning.
      if (request.ns > 0 || !paces.has(key)) pace = slowest(outcome);
      paces.set(key, pace);
      if (attempt === ATTEMPTS || outcome.samples.every((sample) => isLongEnough(request, sample))) {
        return outcome;
      }
    }
  }

  return {
    id: "rdma",
    kind: "path",
    tests: TESTS,
    program,
    commands(request) {
      const messages = messagesFor(request, paces.get(keyOf(request)) ?? request.ns);
      const command = perftestWords(request, messages).join(" ");
      return [command, `${command} ${address("rdma", 0, 1)}`];
    },
    refusal: () => undefined,
    run,
  };
}
