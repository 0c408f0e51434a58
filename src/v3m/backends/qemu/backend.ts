// SPDX-License-Identifier: Apache-2.0
/**
 * The back ends `Qemu` and `Kvm`: a QEMU process for each machine under v3m-supervise, spoken to by QMP. There is no
 * daemon; everything that is known about a machine is in its runtime directory.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type {
  Backend,
  BackendHost,
  Feature,
  ImageSource,
  KeepOptions,
  OperationOptions,
  Probe,
  VmEvent,
  VmStats,
  VmStatus,
} from "../../../vmm/backend.js";
import type { VmDefinition } from "../../definition/types.js";
import { UnsupportedError } from "../../errors.js";
import { createEmptyImage, createFromCdrom, createFromPackages, exists } from "../../images.js";
import { releaseNetwork } from "../../network/index.js";
import { isAlive } from "../../store/process-id.js";
import { attach, attend, endSupervised, programEnded, readProcess } from "../../supervise/index.js";
import { keepDisks, type WrittenFile, withKeptDisks, writtenFiles } from "../disk-copies.js";
import { HypervisorError } from "../errors.js";
import { refuseUnsupported, unsupported } from "../refuse.js";
import { MACHINES } from "./arguments.js";
import { checkBoot } from "./boot.js";
import { capabilities } from "./capabilities.js";
import { overlayPath, removeTemporaryOverlays } from "./disks.js";
import { eventsOf, timeOf, vmEvent } from "./events.js";
import type { QemuKind } from "./kind.js";
import { saveState } from "./migration.js";
import { probeQemu } from "./probe.js";
import { Qmp, type QmpOptions } from "./qmp.js";
import { type Directories, startMachine } from "./start.js";
import { machineStats } from "./stats.js";
import { machineStatus, STOPPING, settled } from "./status.js";

/** How long QEMU may take to end when it is told to, before it is killed. */
const QUIT_MS = 10_000;

export class QemuBackend implements Backend<VmDefinition> {
  readonly type: "Qemu" | "Kvm";
  readonly #kind: QemuKind;
  readonly #host: BackendHost<VmDefinition>;

  constructor(kind: QemuKind, host: BackendHost<VmDefinition>) {
    this.#kind = kind;
    this.#host = host;
    this.type = kind.type;
  }

  probe(): Promise<Probe> {
    return probeQemu(this.#kind);
  }

  async define(definition: VmDefinition, options: OperationOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    refuseUnsupported(this.type, capabilities(this.#kind), definition);
    checkBoot(this.#kind, definition);
    if (definition.option !== undefined && !MACHINES.some((machine) => machine === definition.option)) {
      throw new HypervisorError("E_INVALID", `${this.type} has no option ${definition.option}`, {
        hint: `the option is QEMU's kind of machine: ${MACHINES.join(" or ")}`,
      });
    }
    if (definition.kvm !== undefined && definition.kvm !== "/dev/kvm") {
      throw new HypervisorError("E_INVALID", `QEMU always takes /dev/kvm, not ${definition.kvm}`, {
        hint: "leave it out, or use type VMM-HPC",
      });
    }
    await mkdir(this.#host.stateDirectory(definition.name), { recursive: true, mode: 0o700 });
  }

  async undefine(name: string): Promise<void> {
    await this.cleanUp(name);
    const { state, runtime } = this.#directories(name);
    await rm(runtime, { recursive: true, force: true });
    await rm(state, { recursive: true, force: true });
  }

  async start(name: string, options: OperationOptions = {}): Promise<void> {
    const definition = await this.#host.definition(name);
    const record = await readProcess(this.#directories(name).runtime);
    if (record !== undefined && isAlive(record.program)) {
      throw new HypervisorError("E_STATE", `${name} runs already`, { hint: `v2m stop ${name}` });
    }
    await this.cleanUp(name);
    await startMachine(this.#kind, definition, this.#directories(name), options);
  }

  async stop(name: string, options: OperationOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { runtime } = this.#directories(name);
    const { stopTimeoutMs } = await this.#host.definition(name);
    if ((await readProcess(runtime)) === undefined) await this.#running(name); // it never ran
    await attend(runtime, true);
    try {
      if (!options.force) {
        await this.#askToPowerOff(name, options);
        await programEnded(runtime, stopTimeoutMs, options.signal);
      }
      options.signal?.throwIfAborted();
    } catch (error) {
      await attend(runtime, false);
      throw error;
    }
    if (!(await programEnded(runtime, 0))) await this.#quit(name, runtime);
    await this.cleanUp(name);
  }

  /** QEMU writes out what it has of its disks; where it does not answer, it is killed afterwards. */
  async #quit(name: string, runtime: string): Promise<void> {
    await writeFile(join(runtime, STOPPING), "force");
    await this.#tell(name, "quit", { timeoutMs: QUIT_MS }).catch(() => {});
    await programEnded(runtime, QUIT_MS);
  }

  async reset(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#tell(name, "system_reset", options);
  }

  async pause(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#tell(name, "stop", options);
    await settled(this.#directories(name).runtime, "paused");
  }

  async resume(name: string, options: OperationOptions = {}): Promise<void> {
    await this.#tell(name, "cont", options);
    await settled(this.#directories(name).runtime, "running");
  }

  status(name: string): Promise<VmStatus> {
    return machineStatus(this.#directories(name).runtime);
  }

  async cleanUp(name: string): Promise<void> {
    const { state, runtime } = this.#directories(name);
    await endSupervised(runtime);
    const definition = await this.#host.definition(name).catch(() => undefined);
    if (definition === undefined) return;
    await releaseNetwork(definition.nics);
    await removeTemporaryOverlays(definition, state);
  }

  console(name: string, { signal }: OperationOptions = {}): Promise<Duplex> {
    return attach(this.#directories(name).runtime, "console", { signal });
  }

  async stats(name: string): Promise<VmStats> {
    const pid = await this.#running(name);
    const definition = await this.#host.definition(name);
    await using qmp = await this.#qmp(name);
    return await machineStats(qmp, definition, pid);
  }

  async *events(name: string, { signal }: OperationOptions = {}): AsyncGenerator<VmEvent> {
    const since = new Date();
    await this.#running(name);
    const stream = await attach(this.#directories(name).runtime, "events", { signal });
    for await (const event of eventsOf(stream)) {
      if (timeOf(event) >= since) yield vmEvent(event);
    }
    const { state, detail } = await this.status(name);
    const why = detail === undefined ? {} : { detail };
    yield { name: "ended", time: new Date(), kind: "state", state, ...why };
  }

  async createImage(source: ImageSource<VmDefinition>, options: OperationOptions = {}): Promise<void> {
    switch (source.kind) {
      case "empty":
        return await createEmptyImage(source.to, source.format, source.size, options);
      case "cdrom":
        return await createFromCdrom(this.type, true, source, options);
      case "packages":
        return await createFromPackages(source, options);
    }
  }

  /** QEMU's stream in `machine`, copies of the disks in `disks`: of one moment, for which it is stopped. */
  async snapshot(name: string, directory: string, options: KeepOptions = {}): Promise<undefined> {
    if (options.base !== undefined) {
      throw new UnsupportedError(this.type, "snapshot", "QEMU's have all of the memory, and no base");
    }
    if (options.compress === true) {
      throw new UnsupportedError(this.type, "snapshot", "QEMU's streams of memory are not compressed");
    }
    const definition = await this.#host.definition(name);
    const { runtime } = this.#directories(name);
    const files = await this.#written(name, definition);
    await using qmp = await this.#qmp(name, options);
    const { running } = await qmp.execute<{ running: boolean }>("query-status", undefined, options);
    if (running) await qmp.execute("stop", undefined, options);
    try {
      await mkdir(directory, { mode: 0o700 });
      await saveState(qmp, join(runtime, "state.sock"), join(directory, "machine"), options);
      await keepDisks(files, directory, options);
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    } finally {
      if (running) await qmp.execute("cont");
    }
    await settled(runtime, running ? "running" : "paused");
  }

  async restore(name: string, directory: string, options: OperationOptions = {}): Promise<void> {
    const definition = await this.#host.definition(name);
    const files = await this.#written(name, definition);
    const from = join(directory, "machine");
    if (!(await exists(from))) {
      throw new HypervisorError("E_IO", `there is no snapshot in ${directory}`, {
        hint: "correct the path",
        errno: "ENOENT",
      });
    }
    await this.cleanUp(name);
    await withKeptDisks(files, directory, options, () =>
      startMachine(this.#kind, definition, this.#directories(name), options, from),
    );
  }

  async fork(): Promise<void> {
    throw this.#no("fork");
  }

  async migrate(): Promise<void> {
    throw this.#no("migrate");
  }

  async #written(name: string, definition: VmDefinition): Promise<WrittenFile[]> {
    const { state } = this.#directories(name);
    return await writtenFiles(definition, (index) => {
      const disk = definition.disks[index];
      return disk === undefined ? undefined : overlayPath(disk, state);
    });
  }

  #directories(name: string): Directories {
    return { state: this.#host.stateDirectory(name), runtime: this.#host.runtimeDirectory(name) };
  }

  #no(feature: Feature): UnsupportedError {
    return unsupported(this.type, capabilities(this.#kind), feature);
  }

  /** Number of the machine's process. @throws HypervisorError E_STATE where there is none */
  async #running(name: string): Promise<number> {
    const record = await readProcess(this.#directories(name).runtime);
    if (record === undefined || !isAlive(record.program)) {
      throw new HypervisorError("E_STATE", `${name} does not run`, { hint: `v2m start ${name}` });
    }
    return record.program.pid;
  }

  async #qmp(name: string, options: QmpOptions = {}): Promise<Qmp> {
    await this.#running(name);
    return await Qmp.connect(join(this.#directories(name).runtime, "qmp.sock"), options);
  }

  async #tell(
    name: string,
    command: string,
    options: QmpOptions & Pick<OperationOptions, "gate">,
  ): Promise<void> {
    await using qmp = await this.#qmp(name, options);
    await options.gate?.();
    await qmp.execute(command, undefined, options);
  }

  /** By the ACPI power button; one that is paused could not notice it. One that ends just now needs none. */
  async #askToPowerOff(name: string, { signal }: OperationOptions): Promise<void> {
    try {
      await this.#pressPowerButton(name, signal);
    } catch (error) {
      const ended =
        error instanceof HypervisorError && (error.code === "E_CLOSED" || error.code === "E_STATE");
      if (!ended) throw error;
    }
  }

  async #pressPowerButton(name: string, signal: AbortSignal | undefined): Promise<void> {
    await using qmp = await this.#qmp(name, { signal });
    const { status } = await qmp.execute<{ status: string }>("query-status", undefined, { signal });
    if (["paused", "prelaunch", "postmigrate"].includes(status))
      await qmp.execute("cont", undefined, { signal });
    await qmp.execute("system_powerdown", undefined, { signal });
  }
}
