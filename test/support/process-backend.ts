// SPDX-License-Identifier: Apache-2.0
/**
 * A back end as somebody else would write one, in one file: its machines are shells of the host's, each with its
 * console in a FIFO and a file. It shows that the front end knows nothing of a particular back end, and lets the
 * front end's tests run without KVM. What "kernel" names is the script that the shell runs, or the first disk.
 *
 *     V3M_BACKENDS=…/process-backend.js v2m define vm.yaml        type: Process
 */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, constants, openSync, readdirSync, readFileSync, readSync, writeSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type BackendHost,
  type CapabilityMatrix,
  FEATURES,
  type Feature,
  type ImageSource,
  type OperationOptions,
  type Probe,
  UnsupportedError,
  type V3mBackend,
  type V3mBackendFactory,
  V3mError,
  type VmDefinition,
  type VmEvent,
  type VmStats,
  type VmStatus,
} from "../../src/v3m/index.js";

const TYPE = "Process";
/** In the environment of all processes of a machine: it finds them, whoever started them. */
const MARK = "V3M_PROCESS_MACHINE";
const POLL_MS = 20;

const YES: readonly Feature[] = [
  "start",
  "stop",
  "reset",
  "pause",
  "status",
  "console",
  "stats",
  "events",
  "image",
  "boot:kernel",
  "boot:disk",
  "disks",
  "rng",
];

function matrix(): CapabilityMatrix {
  const row = (feature: Feature) =>
    YES.includes(feature)
      ? ({ supported: "yes" } as const)
      : ({ supported: "no", reason: "a process of the host has none" } as const);
  return Object.fromEntries(FEATURES.map((feature) => [feature, row(feature)])) as CapabilityMatrix;
}

function scriptOf({ boot, disks }: VmDefinition): string {
  return boot.from === "kernel" ? boot.kernel : (disks[0]?.path ?? "");
}

interface Found {
  readonly pid: number;
  /** Leads its process group: the shell that records the end. */
  readonly leader: boolean;
  readonly stopped: boolean;
  readonly cpuTicks: number;
}

function inspect(pid: number, mark: string): Found | undefined {
  try {
    if (!readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(mark)) return undefined;
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    return {
      pid,
      leader: Number(fields[2]) === pid,
      stopped: fields[0] === "T",
      cpuTicks: Number(fields[11]) + Number(fields[12]),
    };
  } catch {
    return undefined; // it has ended, or is another user's
  }
}

class ProcessBackend implements V3mBackend {
  readonly type = TYPE;
  readonly #host: BackendHost<VmDefinition>;

  constructor(host: BackendHost<VmDefinition>) {
    this.#host = host;
  }

  #file(name: string, file: "console" | "exit"): string {
    return join(this.#host.stateDirectory(name), file);
  }

  #fifo(name: string): string {
    return join(this.#host.runtimeDirectory(name), "input");
  }

  #processes(name: string): Found[] {
    const mark = `${MARK}=${this.#host.stateDirectory(name)}`;
    return readdirSync("/proc")
      .filter((entry) => /^\d+$/.test(entry))
      .flatMap((pid) => inspect(Number(pid), mark) ?? []);
  }

  #signal(name: string, signal: NodeJS.Signals): void {
    for (const { pid } of this.#processes(name)) {
      try {
        process.kill(pid, signal);
      } catch {
        // It has ended.
      }
    }
  }

  async #until(done: () => boolean, signal: AbortSignal | undefined): Promise<void> {
    while (!done()) await sleep(POLL_MS, undefined, { signal });
  }

  async probe(): Promise<Probe> {
    const found = spawnSync("busybox", ["true"]).status === 0;
    const why = { reason: "there is no busybox", hint: "sudo apt-get install busybox-static" };
    return { type: TYPE, usable: found, ...(found ? {} : why), capabilities: matrix() };
  }

  async define(definition: VmDefinition): Promise<void> {
    if (definition.boot.from === "kernel" && definition.boot.kind !== "auto") {
      throw new V3mError("E_BAD_IMAGE", `a script is no ${definition.boot.kind} kernel`, {
        hint: "leave kind away",
      });
    }
  }

  async undefine(name: string): Promise<void> {
    await this.cleanUp(name);
  }

  async start(name: string, options: OperationOptions = {}): Promise<void> {
    const script = scriptOf(await this.#host.definition(name));
    closeSync(openSync(script, "r")); // a script that is not there is told before anything is made
    await rm(this.#file(name, "console"), { force: true });
    await options.gate?.();
    await this.#launch(name, script, options.signal);
  }

  async #launch(name: string, script: string, signal: AbortSignal | undefined): Promise<void> {
    await rm(this.#file(name, "exit"), { force: true });
    const fifo = this.#fifo(name);
    await rm(fifo, { force: true });
    spawnSync("busybox", ["mkfifo", "-m", "600", fifo]);
    const shell = 'busybox sh "$1" 0<>"$2" >>"$3" 2>&1; echo $? >"$4.part"; busybox mv "$4.part" "$4"';
    const files = [script, fifo, this.#file(name, "console"), this.#file(name, "exit")];
    const child = spawn("busybox", ["sh", "-c", shell, "machine", ...files], {
      detached: true,
      stdio: "ignore",
      env: { PATH: process.env.PATH, [MARK]: this.#host.stateDirectory(name) },
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    child.unref();
    if (signal?.aborted === true) {
      await this.cleanUp(name);
      signal.throwIfAborted();
    }
  }

  async stop(name: string, options: OperationOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { stopTimeoutMs } = await this.#host.definition(name);
    if (options.force !== true) {
      for (const { pid, leader } of this.#processes(name)) {
        if (!leader) process.kill(pid, "SIGTERM");
      }
      this.#signal(name, "SIGCONT");
      const patience = AbortSignal.timeout(stopTimeoutMs);
      const signal = options.signal === undefined ? patience : AbortSignal.any([patience, options.signal]);
      await this.#until(() => this.#processes(name).length === 0, signal).catch(() => {});
      options.signal?.throwIfAborted();
    }
    await this.cleanUp(name);
  }

  async reset(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#kill(name);
    await this.#launch(name, scriptOf(await this.#host.definition(name)), options.signal);
  }

  async pause(name: string): Promise<void> {
    this.#signal(name, "SIGSTOP");
    await this.#until(() => this.#processes(name).every((found) => found.stopped), undefined);
  }

  async resume(name: string): Promise<void> {
    this.#signal(name, "SIGCONT");
    await this.#until(() => !this.#processes(name).some((found) => found.stopped), undefined);
  }

  async status(name: string): Promise<VmStatus> {
    const processes = this.#processes(name);
    const leader = processes.find((found) => found.leader);
    if (leader !== undefined) {
      return { state: processes.every((found) => found.stopped) ? "paused" : "running", pid: leader.pid };
    }
    let code: number;
    try {
      code = Number(readFileSync(this.#file(name, "exit"), "latin1"));
    } catch {
      return { state: "crashed", detail: "its process was killed" };
    }
    return code === 0
      ? { state: "stopped", detail: "the script ended" }
      : { state: "crashed", detail: `the script ended with code ${code}` };
  }

  async #kill(name: string): Promise<void> {
    this.#signal(name, "SIGKILL");
    await this.#until(() => this.#processes(name).length === 0, undefined);
  }

  async cleanUp(name: string): Promise<void> {
    await this.#kill(name);
    await rm(this.#fifo(name), { force: true });
  }

  async console(name: string): Promise<Duplex> {
    return new ProcessConsole(this.#file(name, "console"), this.#fifo(name), () =>
      this.#processes(name).some((found) => found.leader),
    );
  }

  async stats(name: string): Promise<VmStats> {
    const processes = this.#processes(name);
    const ticks = processes.reduce((sum, found) => sum + found.cpuTicks, 0);
    return { cpu_ns: ticks * 10_000_000, processes: processes.length };
  }

  async *events(name: string, options: OperationOptions = {}): AsyncGenerator<VmEvent> {
    let last: string | undefined;
    while (options.signal?.aborted !== true) {
      const { state } = await this.status(name);
      if (last !== undefined && state !== last) yield { name, time: new Date(), kind: "state", state };
      last = state;
      if (state !== "running" && state !== "paused") return;
      await sleep(POLL_MS);
    }
  }

  async createImage(source: ImageSource<VmDefinition>, options: OperationOptions = {}): Promise<void> {
    if (source.kind !== "empty") this.#no(`image-from-${source.kind}`);
    const handle = await open(source.to, "wx", 0o600);
    try {
      await handle.truncate(source.size);
      options.onProgress?.({ what: "image", done: source.size, total: source.size });
    } finally {
      await handle.close();
    }
  }

  #no(feature: Feature): never {
    throw new UnsupportedError(TYPE, feature, "a process of the host has none");
  }
  async snapshot(): Promise<never> {
    this.#no("snapshot");
  }
  async restore(): Promise<void> {
    this.#no("restore");
  }
  async fork(): Promise<void> {
    this.#no("fork");
  }
  async migrate(): Promise<void> {
    this.#no("migrate");
  }
}

/** What the machine has written so far, then what it writes, until it has ended. */
class ProcessConsole extends Duplex {
  readonly #output: number;
  readonly #input: number;
  readonly #alive: () => boolean;

  constructor(output: string, input: string, alive: () => boolean) {
    super();
    this.#output = openSync(output, "a+");
    this.#input = openSync(input, constants.O_RDWR | constants.O_NONBLOCK);
    this.#alive = alive;
  }

  override async _read(size: number): Promise<void> {
    const buffer = Buffer.alloc(size);
    while (!this.destroyed) {
      const alive = this.#alive();
      const bytes = readSync(this.#output, buffer, 0, size, this.#at);
      this.#at += bytes;
      if (bytes > 0 || !alive) {
        this.push(bytes > 0 ? buffer.subarray(0, bytes) : null);
        return;
      }
      await sleep(POLL_MS);
    }
  }
  #at = 0;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      writeSync(this.#input, chunk);
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    closeSync(this.#output);
    closeSync(this.#input);
    done(error);
  }
}

const factory: V3mBackendFactory = { type: TYPE, create: (host) => new ProcessBackend(host) };
export default factory;
