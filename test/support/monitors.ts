// SPDX-License-Identifier: Apache-2.0
/** Directories for monitors, and their ends. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Machine, type MonitorStatus, monitorStatus } from "../../src/vmm/index.js";

/** A place for the directories of a test file's monitors; what still runs in it is ended with it. */
export class MonitorPlace {
  readonly root = mkdtempSync(join(tmpdir(), "v3m-monitors-"));
  #count = 0;

  directory(): string {
    const directory = join(this.root, `m${this.#count++}`);
    mkdirSync(directory);
    return directory;
  }

  async remove(): Promise<void> {
    for (const name of readdirSync(this.root).filter((entry) => /^m\d+$/.test(entry))) {
      const machine = await Machine.connect(join(this.root, name)).catch(() => undefined);
      await machine?.quit().catch(() => {});
      await machine?.dispose();
    }
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Until the monitor's process has gone. */
export async function gone(directory: string): Promise<MonitorStatus> {
  for (;;) {
    const status = monitorStatus(directory);
    if (!status.alive) return status;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Numbers of the processes that are a monitor, or are becoming one; those that only wait to be reaped are not. */
export function monitorProcesses(): number[] {
  return readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        return /\(vmm-hpc.*\) [^ZX]/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
      } catch {
        return false; // ended meanwhile
      }
    })
    .map(Number);
}
