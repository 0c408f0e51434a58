// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:list`: what `v2m list` costs, from exec to exit, beside a Node.js that does nothing: the floor of
 * every command in JavaScript. Alternated in one run, on this computer. See docs/benchmarks.md.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environment } from "../src/measure/environment.js";
import { rotated } from "../src/measure/statistics.js";
import { packageRoot } from "../src/package-root.js";
import { definitionFrom, resolveSource } from "../src/v3m/definition/load.js";
import { Store } from "../src/v3m/store/store.js";
import { readOptions } from "./lib/options.js";
import { Results } from "./lib/results.js";
import { describe, type ListResult, picture } from "./list/result.js";

const USAGE = `usage: npm run bench:list -- [--rounds N | --quick] [--results DIR]
  --rounds N     alternated rounds, after one that warms up (default 7)
  --quick        3 rounds
  --results DIR  where bench-list.json and bench-list.svg go (default: results)
`;
/** Starts of each contender in a round. */
const STARTS = 3;
const MAIN = join(packageRoot(), "dist/src/v2m/main.js");

interface Contender {
  readonly label: string;
  readonly vms: number;
  readonly args: readonly string[];
}

const CONTENDERS: readonly Contender[] = [
  { label: "node -e 0", vms: 0, args: ["-e", "0"] },
  { label: "v2m --version", vms: 0, args: [MAIN, "--version"] },
  { label: "v2m list, no VM", vms: 0, args: [MAIN, "list"] },
  { label: "v2m list, 200 VMs", vms: 200, args: [MAIN, "list"] },
  { label: "v2m list --json, 200 VMs", vms: 200, args: [MAIN, "list", "--json"] },
  { label: "v2m list, 1000 VMs", vms: 1000, args: [MAIN, "list"] },
];

/** A store with so many VMs, as `v2m define` leaves it. @returns its directory */
async function define(directory: string, count: number): Promise<string> {
  const state = join(directory, String(count));
  const store = new Store({ state, runtime: join(directory, "run") });
  const wait = { waitMs: 0 };
  await store.prepare();
  using _lock = await store.lockStore(wait);
  for (let i = 0; i < count; i++) {
    const nics = [{ type: "TUN/TAP+NAT" as const }];
    const source = definitionFrom({ name: `node${i}`, cpus: 2, memory: "1G", boot: { kernel: "/k" }, nics });
    await store.add(resolveSource(source), { state: "defined", since: new Date().toISOString() });
  }
  return state;
}

/** Milliseconds from exec to exit. */
function time({ args, label }: Contender, state: string): number {
  const begin = process.hrtime.bigint();
  const { status, stderr } = spawnSync(process.execPath, args, {
    env: { ...process.env, V3M_STATE_DIR: state },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const end = process.hrtime.bigint();
  if (status !== 0) throw new Error(`${label}: exit code ${status}\n${stderr}`);
  return Number(end - begin) / 1e6;
}

const options = readOptions(USAGE, []);
const results = new Results(options.results, "list");
const directory = mkdtempSync(join(tmpdir(), "v3m-bench-list-"));
try {
  const states = new Map<number, string>();
  for (const { vms } of CONTENDERS) {
    if (!states.has(vms)) states.set(vms, await define(directory, vms));
  }
  const rows = CONTENDERS.map(({ label, vms }) => ({ label, vms, milliseconds: [] as number[] }));
  for (let round = 0; round <= options.rounds; round++) {
    for (const contender of rotated(CONTENDERS, round)) {
      for (let start = 0; start < STARTS; start++) {
        const value = time(contender, states.get(contender.vms) ?? "");
        if (round > 0) rows[CONTENDERS.indexOf(contender)]?.milliseconds.push(value);
      }
    }
  }
  const result: ListResult = {
    schema: "v3m-bench-list/1",
    machine: environment(),
    rounds: options.rounds,
    rows,
  };
  results.writeJson(result);
  results.writeSvg(picture(result));
  process.stdout.write(`${describe(result)}\n\n${results.path("json")}\n${results.path("svg")}\n`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
