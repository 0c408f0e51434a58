// SPDX-License-Identifier: Apache-2.0
/** Debian's perftest, which measures verbs: its command lines, and what it prints. */
import { V3mError } from "../errors.js";
import type { Request } from "./plan.js";
import { limitSeconds, type Sample } from "./program.js";

/** Of the connection by which the two sides agree, as perftest has it. */
export const PERFTEST_PORT = 18515;

/** Of a brief measurement; perftest takes no fewer than 5. */
export const MESSAGES_LEAST = 8;
/** Each is a time stamp of 8 bytes in the guest's memory. */
const MESSAGES_MOST = 2_000_000;

/** Of the same command line at both ends, but for the leader's, which also has the follower's address. */
export function perftestWords(request: Request, messages: number): string[] {
  const { test, bytes, wait } = request;
  const program = test === "latency" ? ["ib_send_lat"] : ["ib_send_bw", "-N"];
  const how = [...(test === "both" ? ["-b"] : []), ...(wait === "interrupt" ? ["-e"] : [])];
  const what = ["-d", "rxe0", "-F", "-s", String(bytes), "-n", String(messages)];
  return ["timeout", "-s", "KILL", String(limitSeconds(request)), ...program, ...how, ...what];
}

/** How many messages take as long as was asked for. @param paceNs what one took before */
export function messagesFor({ ns }: Pick<Request, "ns">, paceNs: number): number {
  return Math.min(MESSAGES_MOST, Math.max(MESSAGES_LEAST, Math.round(ns / paceNs)));
}

/** Nanoseconds that a message took: a round trip of those for latency. */
export function paceOf({ ticks, count, khz }: Sample): number {
  return (ticks * 1e6) / (count * khz);
}

/** Whether a measurement took about as long as was asked for, or cannot take longer. */
export function isLongEnough({ ns }: Pick<Request, "ns">, sample: Sample): boolean {
  return sample.count >= MESSAGES_MOST || 2 * paceOf(sample) * sample.count >= ns;
}

/** The row of figures below perftest's heading: size, number of messages, and `columns` more. Some may be `-nan`. */
function figures(text: string, columns: number): number[] | undefined {
  const row = /^ *#bytes.*\n(.*)$/m.exec(text)?.[1]?.trim().split(/\s+/).map(Number);
  return row?.length === columns + 2 ? row : undefined;
}

/** Microseconds one way, with two decimals: least, most, median, mean, deviation (which overflows), 99 %, 99.9 %. */
function latencySample(row: readonly number[], messages: number): Sample {
  const roundTrip = (index: number) => 2000 * (row[index] ?? Number.NaN);
  return {
    count: messages,
    ticks: roundTrip(5) * messages,
    total: 2 * messages,
    shortest: roundTrip(2),
    p50: roundTrip(4),
    p99: roundTrip(7),
    p999: roundTrip(8),
    longest: roundTrip(3),
    khz: 1e6,
    cpu: 0,
  };
}

/** MiB/s (peak, mean) with two decimals and millions of messages a second with six, of both directions together. */
function bandwidthSample(row: readonly number[], { test, bytes }: Request, messages: number): Sample {
  const [, , , mebibytes = Number.NaN, millions = Number.NaN] = row;
  // Of the two figures the one with the finer step: 0.01 MiB/s, or one message a second.
  const rate = bytes > 0.01 * 2 ** 20 ? (mebibytes * 2 ** 20) / bytes : millions * 1e6;
  const total = test === "both" ? 2 * messages : messages;
  const none = { shortest: 0, p50: 0, p99: 0, p999: 0, longest: 0 };
  return { count: messages, ticks: (1e9 * total) / rate, total, ...none, khz: 1e6, cpu: 0 };
}

/** What the leading side printed; ticks are nanoseconds. @throws V3mError E_GUEST where that makes no sense */
export function parsePerftest(text: string, request: Request, messages: number): Sample {
  const row = figures(text, request.test === "latency" ? 7 : 3);
  if (row?.[0] === request.bytes && row[1] === messages) {
    const sample =
      request.test === "latency" ? latencySample(row, messages) : bandwidthSample(row, request, messages);
    if (Object.values(sample).every(Number.isFinite) && sample.ticks > 0) return sample;
  }
  throw new V3mError("E_GUEST", "perftest's output makes no sense", {
    hint: `it was: ${JSON.stringify(text.slice(-500))}`,
  });
}
