// SPDX-License-Identifier: Apache-2.0
/**
 * Runs test files in a slow place: the same tests under Vitest's runner, compiled, in one process. In the AMD
 * machine that starts in 5 s where Vitest takes 25, under Bochs it is the difference between minutes and an hour.
 *
 *     node dist/test/support/light-runner.js [-t PATTERN] [FILE|DIRECTORY…]      (default: test/kvm test/nested)
 *
 * The tests run in a child. If it dies or hangs, what was running has failed, and another child takes the
 * remaining files. In the emulated machines, which forget an interrupt now and then (docs/decisions/0007), a few tests that
 * failed are run once more, and what passes then says so. Results go where reporter-results.ts says. Exit code 1 if
 * anything failed.
 */
import { type ChildProcess, fork } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LightMessage } from "./light-protocol.js";
import { currentPlace } from "./places.js";
import { SEPARATOR, type TestRecord, writeResults } from "./reporter-results.js";

const WORKER = fileURLToPath(new URL("./light-worker.js", import.meta.url));
/** Beyond a test's own limit: then it does not even reach its event loop. */
const GRACE_MS = 60_000;
const MARKS = { passed: "✓", failed: "✗", skipped: "–" } as const;

/** What is known of the file that a child is at. */
interface Current {
  file: string;
  names: readonly string[];
  what: string;
  done: Set<string>;
}

/** Sources of the tests below the given paths, sorted. */
function testFiles(paths: readonly string[]): string[] {
  const files = paths.flatMap((path) => {
    const source = path
      .replace(/^dist\//, "")
      .replace(/\.js$/, ".ts")
      .replace(/\/$/, "");
    if (source.endsWith(".ts")) return [source];
    return readdirSync(join("dist", source))
      .filter(
        (name) =>
          name.endsWith(".test.js") &&
          statSync(join(source, name.replace(/\.js$/, ".ts")), { throwIfNoEntry: false }),
      )
      .map((name) => join(source, name.replace(/\.js$/, ".ts")))
      .sort();
  });
  return [...new Set(files)];
}

class Supervisor {
  readonly records: TestRecord[] = [];
  readonly errors: string[] = [];
  readonly #pattern: string;
  /** Called when there are more records. */
  readonly #save: () => void;
  #current: Current = { file: "", names: [], what: "", done: new Set() };
  #child: ChildProcess | undefined;
  #watchdog: NodeJS.Timeout | undefined;

  constructor(pattern: string, save: (records: readonly TestRecord[], errors: readonly string[]) => void) {
    this.#pattern = pattern;
    this.#save = () => save(this.records, this.errors);
  }

  async run(files: readonly string[]): Promise<void> {
    let rest = [...files];
    while (rest.length > 0) {
      const ended = await this.#runChild(rest);
      const next = rest.indexOf(this.#current.file) + 1;
      if (!ended && next === 0) {
        this.#fail(`${rest[0]}: the process died before the file was loaded`);
      }
      rest = ended ? [] : rest.slice(Math.max(1, next));
    }
  }

  /** @returns whether the child went through all of the files. */
  async #runChild(files: readonly string[]): Promise<boolean> {
    this.#current = { file: "", names: [], what: "starting", done: new Set() };
    const left = new Set(files);
    const child = fork(WORKER, [this.#pattern, ...files], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child = child;
    this.#watch(600_000);
    child.on("message", (message: LightMessage) => {
      this.#onMessage(message);
      if (message.type === "file") left.delete(message.file);
    });
    const how = await new Promise<string>((resolve) => {
      child.on("error", (error) => resolve(error.message));
      child.on("close", (code, signal) => resolve(signal ?? (code === 0 ? "" : `exit code ${code}`)));
    });
    clearTimeout(this.#watchdog);
    if (left.size === 0 && how === "") {
      return true;
    }
    this.#blame(how || "it ended early");
    return left.size === 0;
  }

  kill(): void {
    this.#child?.kill("SIGKILL");
  }

  #watch(limitMs: number): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      const seconds = Math.round(limitMs / 1000);
      this.errors.push(
        `${this.#current.file}: ${this.#current.what}: no sign of life for ${seconds} s, killed`,
      );
      this.kill();
    }, limitMs);
  }

  #onMessage(message: LightMessage): void {
    switch (message.type) {
      case "collected":
        this.#current = { file: message.file, names: message.names, what: "", done: new Set() };
        break;
      case "busy":
        this.#current.what = message.what;
        this.#watch(message.limitMs + GRACE_MS);
        break;
      case "test":
        this.#current.done.add(message.record.name);
        this.#add(message.record);
        break;
      case "file":
        for (const error of message.errors) this.#fail(error);
        this.#save();
        break;
    }
  }

  /** The child died: whatever of its file has no result has failed. */
  #blame(how: string): void {
    const { file, names, what, done } = this.#current;
    const missing = names.filter((name) => !done.has(name));
    if (missing.length === 0) {
      this.#fail(`${file || "tests"}: the process died (${how}) at: ${what}`);
    }
    for (const name of missing) {
      const note = name === what ? `the process died: ${how}` : `the process died (${how}) at: ${what}`;
      this.#add({ file, name, state: "failed", ms: 0, note });
    }
    this.#save();
  }

  #add(record: TestRecord): void {
    this.records.push(record);
    const note = record.note === undefined ? "" : ` — ${record.note}`;
    console.log(`${MARKS[record.state]} ${record.file} > ${record.name} (${record.ms} ms)${note}`);
  }

  #fail(error: string): void {
    this.errors.push(error);
    console.log(`✗ ${error}`);
  }
}

/** Where more fail, it is not the emulator. */
const SECOND_ATTEMPTS = 4;

/** @returns the records, with those of second attempts in place of the first ones that failed */
async function tryAgain(records: readonly TestRecord[]): Promise<TestRecord[]> {
  const failed = records.filter(({ state }) => state === "failed");
  if (currentPlace() === "host" || failed.length > SECOND_ATTEMPTS) return [...records];
  const replaced = new Map<TestRecord, TestRecord>();
  for (const first of failed) {
    console.log(`once more: ${first.file} > ${first.name}`);
    // The runner joins the names of suites and tests by spaces.
    const fullName = first.name.replaceAll(SEPARATOR, " ").replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
    supervisor = new Supervisor(`${fullName}$`, () => {});
    await supervisor.run([first.file]);
    const second = supervisor.records.find(({ name }) => name === first.name);
    if (second?.state !== "passed" || supervisor.errors.length > 0) continue;
    const why = (first.note ?? "").split("\n")[0] ?? "";
    replaced.set(first, { ...second, note: `passed at the second attempt; the first: ${why}` });
  }
  return records.map((record) => replaced.get(record) ?? record);
}

const args = process.argv.slice(2);
const patternAt = args.indexOf("-t");
const pattern = patternAt < 0 ? "" : (args.splice(patternAt, 2)[1] ?? "");
let supervisor = new Supervisor(pattern, writeResults);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    supervisor.kill();
    process.exit(1);
  });
}
const started = Date.now();
await supervisor.run(testFiles(args.length > 0 ? args : ["test/kvm", "test/nested"]));
const { errors } = supervisor;
const records = errors.length > 0 ? supervisor.records : await tryAgain(supervisor.records);
writeResults(records, errors);
const count = (state: TestRecord["state"]) => records.filter((r) => r.state === state).length;
console.log(
  `${currentPlace()}: ${count("passed")} passed, ${count("failed") + errors.length} failed, ${count("skipped")} skipped in ${Math.round((Date.now() - started) / 1000)} s`,
);
process.exitCode = count("failed") + errors.length > 0 ? 1 : 0;
