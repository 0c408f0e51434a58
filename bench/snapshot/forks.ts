// SPDX-License-Identifier: Apache-2.0
/**
 * Clones of a booted Linux guest, until each has said its own host name and MAC address; then what each has of memory to
 * itself, beside the pages that KVM's log says its vCPU has written. All run in this process, where the log can be read.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { short, summarize } from "../../src/measure/statistics.js";
import { packageRoot } from "../../src/package-root.js";
import { type Link, Machine, type MachineOptions, openLink } from "../../src/vmm/index.js";
import { table } from "../lib/table.js";
import { said } from "./console.js";

const MIB = 1 << 20;
/** Beside the pages that were written. */
export const ALLOWANCE = 128 << 10;
const AGENT = join(packageRoot(), "examples/take-up-identity.sh");

export interface ForkRow {
  readonly name: string;
  /** From the request to its first word. */
  readonly seconds: number;
  readonly dirtyPages: number;
  readonly privateBytes: number;
}

export interface Forks {
  /** Seconds for which the first machine was paused, at most. */
  readonly taken: number;
  readonly rows: readonly ForkRow[];
}

/**
 * Bytes within [from, to) that are copies of this mapping's own. Not what is only mapped here and nowhere else: that is in
 * the file, and the other clones', too.
 */
function privateWithin(ranges: readonly { readonly from: bigint; readonly to: bigint }[]): number {
  let counts = false;
  let bytes = 0;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    const head = /^([0-9a-f]+)-[0-9a-f]+ /.exec(line);
    if (head !== null) {
      const at = BigInt(`0x${head[1]}`);
      counts = ranges.some(({ from, to }) => at >= from && at < to);
    } else if (counts && /^Anonymous:/.test(line)) {
      bytes += Number(/\d+/.exec(line)?.[0]) * 1024;
    }
  }
  return bytes;
}

const macOf = (index: number) =>
  `52:54:00:f0:${[index >> 8, index & 0xff].map((byte) => byte.toString(16).padStart(2, "0")).join(":")}`;

/** @param boot kernel, and an initrd with virtio_net */
export async function measureForks(
  boot: MachineOptions,
  count: number,
  say: (text: string) => void,
): Promise<Forks> {
  const links: Link[] = [];
  const options = (index: number): MachineOptions => {
    const link = openLink();
    links.push(link);
    const nets = [{ kind: "link", fd: link.ends[0], mac: macOf(index) } as const];
    return { ...boot, memory: 160 * MIB, nets, generationId: "random" };
  };
  const clones: Machine[] = [];
  const began: { readonly name: string; readonly seconds: number }[] = [];
  try {
    await using first = await Machine.create(options(0));
    const ready = said(first.console, "/ # ");
    first.start();
    await ready;
    const waiting = said(first.console, "watching.");
    first.console.write(`cat >/tmp/agent <<'END'\n${readFileSync(AGENT, "utf8")}END\n`);
    first.console.write(
      `echo 'echo "I am $1, $(cat /sys/class/net/eth0/address)." >/dev/console' >/tmp/then\n`,
    );
    first.console.write("sh /tmp/agent 1 sh /tmp/then & sleep 3; echo watchin''g.\n");
    await waiting;
    const begin = process.hrtime.bigint();
    using point = await first.forkPoint();
    const taken = Number(process.hrtime.bigint() - begin) / 1e9;
    say(`memory taken in ${short(taken)} s`);
    for (let i = 1; i <= count; i++) {
      const name = `clone-${i}`;
      const since = process.hrtime.bigint();
      const clone = await Machine.clone(point, { ...options(i), name });
      clones.push(clone);
      clone.logDirtyPages();
      const answer = said(clone.console, `I am ${name}, ${macOf(i)}.`);
      clone.start();
      await answer;
      began.push({ name, seconds: Number(process.hrtime.bigint() - since) / 1e9 });
      if (i % 10 === 0 || i === count) say(`${i} clones have answered`);
    }
    const rows: ForkRow[] = [];
    for (const [index, clone] of clones.entries()) {
      await clone.pause();
      const { name = "", seconds = 0 } = began[index] ?? {};
      const privateBytes = privateWithin(clone.memory.hostRanges);
      rows.push({ name, seconds, dirtyPages: clone.dirtyPages(), privateBytes });
    }
    return { taken, rows };
  } finally {
    for (const clone of clones) await clone.dispose();
    for (const link of links) link.close();
  }
}

export function describeForks({ taken, rows }: Forks): string {
  const of = (what: (row: ForkRow) => number) => summarize(rows.map(what));
  const excess = of(({ dirtyPages, privateBytes }) => privateBytes - dirtyPages * 4096);
  const lines = [
    ["seconds to its first word", of(({ seconds }) => seconds), 1],
    ["KiB that its vCPU wrote (KVM's log)", of(({ dirtyPages }) => dirtyPages * 4), 1],
    ["KiB of its own", of(({ privateBytes }) => privateBytes), 1024],
    ["KiB of its own beside those", excess, 1024],
  ] as const;
  return [
    table(
      [`${rows.length} clones, each`, "median", "range"],
      lines.map(([what, { median, min, max }, unit]) => [
        what,
        short(median / unit),
        `${short(min / unit)} to ${short(max / unit)}`,
      ]),
    ),
    "",
    `the first machine was paused for ${short(taken)} s; most beside the log: ${short(excess.max / 1024)} KiB (goal: at most ${ALLOWANCE >> 10})`,
  ].join("\n");
}
