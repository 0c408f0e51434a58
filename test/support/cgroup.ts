// SPDX-License-Identifier: Apache-2.0
/** A control group with a limit of memory, for processes that are to run out of it. */
import { appendFileSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = "/sys/fs/cgroup";
let made = 0;

export class MemoryCgroup {
  readonly #path = join(ROOT, `v3m-test-${process.pid}-${made++}`);

  /** @throws where there is no cgroup v2 with a memory controller, or it is not ours to use */
  constructor(bytes: number) {
    appendFileSync(join(ROOT, "cgroup.subtree_control"), "+memory");
    mkdirSync(this.#path);
    try {
      writeFileSync(join(this.#path, "memory.max"), String(bytes));
    } catch (error) {
      rmdirSync(this.#path);
      throw error;
    }
  }

  add(pid: number): void {
    writeFileSync(join(this.#path, "cgroup.procs"), String(pid));
  }

  /** Processes that the kernel killed for want of memory. */
  get killed(): number {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(this.#path, "memory.events"), "utf8"))?.[1]);
  }

  /** Without processes in it. */
  remove(): void {
    rmdirSync(this.#path);
  }
}
