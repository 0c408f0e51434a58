// SPDX-License-Identifier: Apache-2.0
/**
 * What a restore costs: by the guest's RAM, when it touches next to nothing, and by what it touches. The guest has the same
 * data in a file in memory each time; how much of it is read after the restore is what varies. And what it costs where the
 * snapshot is compressed.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { short, summarize } from "../../src/measure/statistics.js";
import { compressSnapshot, Machine, type MachineOptions } from "../../src/vmm/index.js";
import { table } from "../lib/table.js";
import { said } from "./console.js";

const MIB = 1 << 20;
const DATA_MIB = 96;
/** Of RAM, touching nothing; with the last, of the data that is read. */
const MEMORY_MIB = [256, 512, 1024, 2048] as const;
const TOUCHED_MIB = [8, 32, 96] as const;
/** Reads MiB, as many as it is told to, and says so. */
const SERVE =
  "while read n; do dd if=/tmp/data of=/dev/null bs=1M count=$n 2>/dev/null; echo touched $n.; done\n";

export interface SeriesRow {
  readonly memoryMiB: number;
  readonly touchedMiB: number;
  readonly compressed: boolean;
  /** From the request to the answer; seconds, one for each round. */
  readonly seconds: number[];
  /** Of the monitor, at the answer: bytes, and page faults of its life. */
  readonly resident: number[];
  readonly faults: number[];
}

/** Of a process: what it has resident, and its page faults. */
function costs(pid: number): { readonly resident: number; readonly faults: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  // Behind the name in brackets; fields 10 and 12 of proc(5).
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
    .replace(/^.*\) /, "")
    .split(" ");
  return {
    resident: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024,
    faults: Number(fields[7]) + Number(fields[9]),
  };
}

/** @param boot kernel and initrd. @param directory for snapshots and monitors */
export async function measureSeries(
  boot: MachineOptions,
  directory: string,
  rounds: number,
  say: (text: string) => void,
): Promise<SeriesRow[]> {
  let monitors = 0;
  const where = () => {
    const own = join(directory, `m${monitors++}`);
    mkdirSync(own);
    return { directory: own };
  };
  const path = (memoryMiB: number, compressed: boolean) =>
    join(directory, `${compressed ? "z" : "s"}${memoryMiB}`);
  const options = (memoryMiB: number): MachineOptions => ({ ...boot, memory: memoryMiB * MIB });
  for (const memoryMiB of MEMORY_MIB) {
    await using machine = await Machine.spawn(options(memoryMiB), where());
    const ready = said(machine.console, "/ # ");
    machine.start();
    await ready;
    const serving = said(machine.console, "touched 0.");
    machine.console.write(`dd if=/dev/urandom of=/tmp/data bs=1M count=${DATA_MIB} 2>/dev/null; ${SERVE}0\n`);
    await serving;
    await machine.snapshot(path(memoryMiB, false));
    await machine.quit();
    await compressSnapshot(path(memoryMiB, false), path(memoryMiB, true));
    say(`${memoryMiB} MiB of RAM: saved`);
  }
  const last = MEMORY_MIB[MEMORY_MIB.length - 1] ?? 0;
  const rows = [
    ...MEMORY_MIB.map((memoryMiB) => [memoryMiB, 0, false] as const),
    ...TOUCHED_MIB.map((touchedMiB) => [last, touchedMiB, false] as const),
    ...[MEMORY_MIB[0], last].map((memoryMiB) => [memoryMiB, 0, true] as const),
  ].map(([memoryMiB, touchedMiB, compressed]) => ({
    memoryMiB,
    touchedMiB,
    compressed,
    seconds: [] as number[],
    resident: [] as number[],
    faults: [] as number[],
  }));
  for (let round = 0; round <= rounds; round++) {
    for (const row of rows) {
      const { memoryMiB, touchedMiB, compressed } = row;
      const begin = process.hrtime.bigint();
      const from = path(memoryMiB, compressed);
      await using copy = await Machine.restore(from, options(memoryMiB), where());
      const answer = said(copy.console, `touched ${touchedMiB}.`);
      copy.start();
      copy.console.write(`${touchedMiB}\n`);
      await answer;
      const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
      const { resident, faults } = costs(copy.monitorInfo().pid);
      await copy.quit();
      if (round === 0) continue; // it warms up
      row.seconds.push(seconds);
      row.resident.push(resident);
      row.faults.push(faults);
    }
    say(`series, ${round === 0 ? "warm-up" : `round ${round}/${rounds}`}`);
  }
  return rows;
}

export function describeSeries(rows: readonly SeriesRow[]): string {
  const median = (values: readonly number[]) => summarize(values).median;
  return table(
    ["restore of", "then reads", "seconds", "resident, MiB", "page faults"],
    rows.map(({ memoryMiB, touchedMiB, compressed, seconds, resident, faults }) => [
      `${memoryMiB} MiB${compressed ? ", compressed" : ""}`,
      `${touchedMiB} MiB`,
      short(median(seconds)),
      short(median(resident) / MIB),
      String(median(faults)),
    ]),
  );
}
