// SPDX-License-Identifier: Apache-2.0
/** A state directory of a test's own, with VMs of the back end in process-backend.ts. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../src/package-root.js";
import { builtinRegistry, type DefinitionInput, V3m, type V3mOptions } from "../../src/v3m/index.js";
import processBackend from "./process-backend.js";
import { Observed, type Outcome, V2M } from "./v2m.js";

/** Says that it is up, counts, and obeys: `quit`, `fail`, or anything else, which it repeats. */
const SCRIPT = `echo up
while read line; do
  case $line in
    quit) exit 0 ;;
    fail) exit 7 ;;
    *) echo "got $line" ;;
  esac
done
`;

export class TestVms implements AsyncDisposable {
  readonly directory: string;
  readonly script: string;
  readonly env: NodeJS.ProcessEnv;

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), "v3m-vms-"));
    mkdirSync(join(this.directory, "state"));
    this.script = join(this.directory, "script.sh");
    writeFileSync(this.script, SCRIPT);
    this.env = {
      V3M_STATE_DIR: this.state,
      V3M_RUNTIME_DIR: this.runtime,
      V3M_BACKENDS: join(packageRoot(), "dist/test/support/process-backend.js"),
    };
  }

  get state(): string {
    return join(this.directory, "state");
  }

  get runtime(): string {
    return join(this.directory, "run");
  }

  /** A front end of this process. */
  front(options: V3mOptions = {}): V3m {
    const registry = builtinRegistry().register(processBackend);
    return new V3m({ state: this.state, runtime: this.runtime, registry, ...options });
  }

  definition(name: string, more: Partial<DefinitionInput> = {}): DefinitionInput {
    return { name, type: "Process", boot: { kernel: this.script }, stopTimeout: 20, ...more };
  }

  /** Write a definition to a file. @returns its path */
  file(name: string, more: Partial<DefinitionInput> = {}): string {
    const path = join(this.directory, `${name}.json`);
    writeFileSync(path, JSON.stringify(this.definition(name, more)));
    return path;
  }

  /** The v2m command on these VMs, under observation. */
  observe(...args: readonly string[]): Observed {
    return new Observed([...V2M, ...args], this.env);
  }

  /** The same to its end, with nothing on standard input. */
  async v2m(...args: readonly string[]): Promise<Outcome> {
    const observed = this.observe(...args);
    observed.child.stdin?.end();
    return await observed.outcome;
  }

  /** What `v2m … --json` says. @throws where it fails */
  async json<T>(...args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.v2m(...args, "--json");
    if (code !== 0) throw new Error(`v2m ${args.join(" ")}: exit code ${code}\n${stderr}${stdout}`);
    return JSON.parse(stdout) as T;
  }

  /** Processes of the machine of a VM (of all of them), whoever started them. */
  processes(name?: string): number[] {
    const mark = `V3M_PROCESS_MACHINE=${join(this.state, "vms", name === undefined ? "" : `${name}/backend`)}`;
    return readdirSync("/proc")
      .filter((entry) => /^\d+$/.test(entry))
      .map(Number)
      .filter((pid) => {
        try {
          const words = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
          const found = words.some((word) => (name === undefined ? word.startsWith(mark) : word === mark));
          return found && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
        } catch {
          return false;
        }
      });
  }

  /** Files of the state directory that are not a VM's own: none, but for locks. */
  litter(): string[] {
    const vms = join(this.state, "vms");
    const hidden = (directory: string) => readdirSync(directory).filter((entry) => entry.startsWith("."));
    return [
      ...hidden(vms),
      ...readdirSync(vms).flatMap((name) => hidden(join(vms, name)).map((entry) => `${name}/${entry}`)),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.processes()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended.
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A file system in memory, so small that it can be filled; root's only. */
export class SmallDisk implements Disposable {
  readonly directory: string;

  constructor(size: string) {
    this.directory = mkdtempSync(join(tmpdir(), "v3m-small-"));
    const { status, stderr } = spawnSync("mount", [
      "-t",
      "tmpfs",
      "-o",
      `size=${size}`,
      "v3m-test",
      this.directory,
    ]);
    if (status !== 0) throw new Error(`mount: ${stderr}`);
  }

  /** Write until nothing more fits. */
  fill(): void {
    const path = join(this.directory, "filling");
    for (const bytes of [65_536, 4096, 1]) {
      try {
        for (;;) writeFileSync(path, Buffer.alloc(bytes), { flag: "a" });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      }
    }
  }

  empty(): void {
    rmSync(join(this.directory, "filling"), { force: true });
  }

  [Symbol.dispose](): void {
    spawnSync("umount", ["-l", this.directory]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
