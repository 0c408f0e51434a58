// SPDX-License-Identifier: Apache-2.0
/** Where the exits come from: one boot under tracefs. Tracing costs time, so these rounds are not timed. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { table } from "../lib/table.js";

const TRACE = "/sys/kernel/tracing";
const EVENTS = ["kvm_entry", "kvm_exit", "kvm_msr", "kvm_cpuid", "kvm_pio", "kvm_mmio"];
const BUFFER_KIB = 65536;
const MAX_ROWS = 20;

/** Counts by what was counted, most frequent first. */
export interface Histogram {
  /** Time in guest mode, of all vCPUs: what the guest's own code takes, whatever monitor it has. */
  readonly guestSeconds: number;
  /** By the hardware's reason; `interrupt` is the host's, all others the guest caused. */
  readonly reasons: Readonly<Record<string, number>>;
  readonly msrs: Readonly<Record<string, number>>;
  readonly cpuids: Readonly<Record<string, number>>;
  readonly ports: Readonly<Record<string, number>>;
  readonly mmio: Readonly<Record<string, number>>;
  /** Guest code at the time of an exit, by reason and instruction pointer. */
  readonly places: Readonly<Record<string, number>>;
}

export function tracingAvailable(): boolean {
  return existsSync(join(TRACE, "events/kvm/kvm_exit/enable"));
}

const set = (file: string, value: string | number) => writeFileSync(join(TRACE, file), String(value));

export function startTracing(): void {
  set("tracing_on", 0);
  set("trace", "");
  set("buffer_size_kb", BUFFER_KIB);
  for (const event of EVENTS) set(`events/kvm/${event}/enable`, 1);
  set("tracing_on", 1);
}

/** May be called more than once: only the first call ends the recording. */
export function stopTracing(): void {
  set("tracing_on", 0);
}

/** What was recorded; the buffer is given back. */
export function readTrace(): Histogram {
  for (const event of EVENTS) set(`events/kvm/${event}/enable`, 0);
  const histogram = parseTrace(readFileSync(join(TRACE, "trace"), "latin1"));
  set("trace", "");
  set("buffer_size_kb", 1408);
  return histogram;
}

class Counter {
  readonly #counts = new Map<string, number>();

  add(key: string): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  sorted(): Record<string, number> {
    return Object.fromEntries([...this.#counts].sort((a, b) => b[1] - a[1]));
  }
}

/** The text of tracefs's `trace` file, counted. */
export function parseTrace(text: string): Histogram {
  const counters = {
    reasons: new Counter(),
    msrs: new Counter(),
    cpuids: new Counter(),
    ports: new Counter(),
    mmio: new Counter(),
    places: new Counter(),
  };
  let guestSeconds = 0;
  const entered = new Map<string, number>();
  const patterns: readonly [RegExp, (match: RegExpExecArray) => void][] = [
    [
      /kvm_exit: .*reason (\S+) rip (0x[0-9a-f]+)/,
      ([, reason = "", rip = ""]) => {
        counters.reasons.add(reason);
        if (reason !== "interrupt") counters.places.add(`${reason} ${rip}`);
      },
    ],
    [/kvm_msr: msr_(\w+) ([0-9a-f]+)/, ([, what, msr]) => counters.msrs.add(`${what} ${msr}`)],
    [/kvm_cpuid: func ([0-9a-f]+) idx/, ([, leaf = ""]) => counters.cpuids.add(leaf)],
    [
      /kvm_pio: pio_(\w+) at (0x[0-9a-f]+) size (\d+)/,
      ([, what, port, size]) => counters.ports.add(`${what} ${port}/${size}`),
    ],
    [
      /kvm_mmio: mmio (read|write) len \d+ gpa (0x[0-9a-f]+)/,
      ([, what, gpa]) => counters.mmio.add(`${what} ${gpa}`),
    ],
  ];
  for (const line of text.split("\n")) {
    const [, thread = "", time = "", event] =
      /-(\d+) +\[.*? (\d+\.\d+): (kvm_entry|kvm_exit):/.exec(line) ?? [];
    if (event === "kvm_entry") entered.set(thread, Number(time));
    if (event === "kvm_exit") {
      guestSeconds += Number(time) - (entered.get(thread) ?? Number(time));
      entered.delete(thread);
    }
    for (const [pattern, count] of patterns) {
      const match = pattern.exec(line);
      if (match !== null) {
        count(match);
        break;
      }
    }
  }
  return {
    guestSeconds,
    reasons: counters.reasons.sorted(),
    msrs: counters.msrs.sorted(),
    cpuids: counters.cpuids.sorted(),
    ports: counters.ports.sorted(),
    mmio: counters.mmio.sorted(),
    places: counters.places.sorted(),
  };
}

/** Side by side: the most frequent of each kind. */
export function describeTraces(traces: readonly { label: string; histogram: Histogram }[]): string {
  const section = (title: string, of: (histogram: Histogram) => Readonly<Record<string, number>>) => {
    const columns = traces.map(({ histogram }) => of(histogram));
    const total = (column: Readonly<Record<string, number>>) =>
      Object.values(column).reduce((sum, count) => sum + count, 0);
    const largest = (key: string) => Math.max(...columns.map((column) => column[key] ?? 0));
    const keys = [...new Set(columns.flatMap((column) => Object.keys(column)))].sort(
      (a, b) => largest(b) - largest(a),
    );
    const row = (key: string) => [key, ...columns.map((column) => String(column[key] ?? 0))];
    const all = ["all", ...columns.map((column) => String(total(column)))];
    return table([title, ...traces.map(({ label }) => label)], [all, ...keys.slice(0, MAX_ROWS).map(row)]);
  };
  return [
    table(
      ["", ...traces.map(({ label }) => label)],
      [["seconds in guest mode", ...traces.map(({ histogram }) => histogram.guestSeconds.toFixed(2))]],
    ),
    section("exit reason", (h) => h.reasons),
    section("MSR", (h) => h.msrs),
    section("CPUID leaf", (h) => h.cpuids),
    section("port", (h) => h.ports),
    section("MMIO", (h) => h.mmio),
  ].join("\n\n");
}
