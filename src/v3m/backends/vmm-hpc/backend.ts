// SPDX-License-Identifier: Apache-2.0
/**
 * The back end `VMM-HPC`: each machine is run by a monitor of its own, `vmm-hpc`, in a jail. There is no daemon;
 * everything that is known about a machine is in its runtime directory, which is its monitor's.
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
  KeptMemory,
  OperationOptions,
  Probe,
  VmEvent,
  VmStats,
  VmStatus,
} from "../../../vmm/backend.js";
import { Machine } from "../../../vmm/machine.js";
import { compressSnapshot, readSnapshot, verifySnapshot } from "../../../vmm/snapshot.js";
import type { VmDefinition } from "../../definition/types.js";
import type { UnsupportedError } from "../../errors.js";
import { createEmptyImage, createFromCdrom, createFromPackages } from "../../images.js";
import { releaseNetwork } from "../../network/index.js";
import { endSupervised, killProcess, processEnded } from "../../supervise/index.js";
import { keepDisks, type WrittenFile, withKeptDisks, writtenFiles } from "../disk-copies.js";
import { HypervisorError } from "../errors.js";
import { refuseUnsupported, unsupported } from "../refuse.js";
import { CAPABILITIES } from "./capabilities.js";
import { machineEvents } from "./events.js";
import { forkMachine } from "./fork.js";
import { probeVmmHpc } from "./probe.js";
import { type Directories, keeperDirectory, startMachine } from "./start.js";
import { machineStats } from "./stats.js";
import { FORCED, machineStatus, monitorEnded, pageOf, recordedMonitor } from "./status.js";

/** A monitor ends within milliseconds, but for a reader of its console who does not read; then it is killed. */
const QUIT_MS = 15_000;
const SCROLLBACK_MAX = 16 << 20;

export class VmmHpcBackend implements Backend<VmDefinition> {
  readonly type = "VMM-HPC";
  readonly #host: BackendHost<VmDefinition>;

  constructor(host: BackendHost<VmDefinition>) {
    this.#host = host;
  }

  async probe(): Promise<Probe> {
    return probeVmmHpc();
  }

  async define(definition: VmDefinition, options: OperationOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    refuseUnsupported(this.type, CAPABILITIES, definition);
    if (definition.option !== undefined) {
      throw new HypervisorError("E_INVALID", `${this.type} has no option ${definition.option}`, {
        hint: "leave the option out",
      });
    }
    if (definition.console.scrollback > SCROLLBACK_MAX) {
      throw new HypervisorError("E_LIMIT", `${this.type} keeps at most 16 MiB of a console`, {
        hint: "less scrollback, or a log",
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
    await this.cleanUp(name);
    await startMachine(definition, this.#directories(name), options);
  }

  async stop(name: string, options: OperationOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { runtime } = this.#directories(name);
    const { stopTimeoutMs } = await this.#host.definition(name);
    if (!options.force) {
      await this.#with(name, async (machine) => {
        if (machine.state === "paused") machine.resume(); // it could not notice
        machine.pressPowerButton();
      });
      if (await monitorEnded(runtime, stopTimeoutMs, options.signal)) return await this.cleanUp(name);
    }
    options.signal?.throwIfAborted();
    await writeFile(join(runtime, FORCED), "");
    await this.#with(name, (machine) => machine.quit()).catch(() => {}); // it may end just now
    await this.cleanUp(name);
  }

  async reset(name: string): Promise<void> {
    await this.#with(name, async (machine) => machine.reset());
  }

  async pause(name: string, { gate }: OperationOptions = {}): Promise<void> {
    await this.#with(name, async (machine) => {
      await gate?.();
      await machine.pause();
    });
  }

  async resume(name: string, { gate }: OperationOptions = {}): Promise<void> {
    await this.#with(name, async (machine) => {
      await gate?.();
      machine.resume();
    });
  }

  status(name: string): Promise<VmStatus> {
    return machineStatus(this.#directories(name).runtime);
  }

  async cleanUp(name: string): Promise<void> {
    const { runtime } = this.#directories(name);
    if (!(await monitorEnded(runtime, QUIT_MS))) {
      const monitor = await recordedMonitor(runtime);
      if (monitor === undefined) {
        const pid = pageOf(runtime)?.pid;
        throw new HypervisorError(
          "E_STATE",
          `the monitor of ${name} does not end, and nobody noted which it is`,
          {
            hint: `see what process ${pid} is, and kill it if it is vmm-hpc`,
          },
        );
      }
      killProcess(monitor);
      await processEnded(monitor, Number.POSITIVE_INFINITY);
    }
    await endSupervised(keeperDirectory(runtime));
    await rm(join(runtime, "control"), { force: true });
    const definition = await this.#host.definition(name).catch(() => undefined);
    if (definition !== undefined) await releaseNetwork(definition.nics);
  }

  console(name: string): Promise<Duplex> {
    return this.#with(name, async (machine) => machine.joinConsole());
  }

  async stats(name: string): Promise<VmStats> {
    const definition = await this.#host.definition(name);
    return await this.#with(name, (machine) => machineStats(machine, definition));
  }

  async *events(name: string, { signal }: OperationOptions = {}): AsyncGenerator<VmEvent> {
    await using machine = await this.#connect(name);
    yield* machineEvents(machine, signal);
  }

  async createImage(source: ImageSource<VmDefinition>, options: OperationOptions = {}): Promise<void> {
    switch (source.kind) {
      case "empty":
        return await createEmptyImage(source.to, source.format, source.size, options);
      case "cdrom":
        return await createFromCdrom(this.type, false, source, options);
      case "packages":
        return await createFromPackages(source, options);
    }
  }

  /** The machine's state in `machine`, copies of its disks in `disks`: of one moment, for which it is paused. */
  async snapshot(name: string, directory: string, options: KeepOptions = {}): Promise<KeptMemory> {
    const definition = await this.#host.definition(name);
    const files = await this.#written(definition);
    const state = join(directory, "machine");
    const written = options.compress === true ? join(directory, "uncompressed") : state;
    await this.#with(name, async (machine) => {
      const ran = machine.state === "running";
      if (ran) await machine.pause();
      try {
        await mkdir(directory, { mode: 0o700 });
        options.onProgress?.({ what: "writing memory", done: 0, total: 2 });
        await machine.snapshot(written, {
          ...(options.base === undefined ? {} : { base: join(options.base, "machine") }),
        });
        options.signal?.throwIfAborted();
        await keepDisks(files, directory, options);
      } catch (error) {
        await rm(directory, { recursive: true, force: true });
        throw error;
      } finally {
        if (ran) machine.resume();
      }
    });
    try {
      if (written !== state) {
        // The machine goes on meanwhile.
        options.onProgress?.({ what: "compressing memory", done: 1, total: 2 });
        await compressSnapshot(written, state);
        await rm(written, { recursive: true });
        options.signal?.throwIfAborted();
      }
      const { ownBytes, storedBytes, compressed } = readSnapshot(state);
      return { dataBytes: Number(ownBytes), storedBytes: Number(storedBytes), compressed };
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  async verifySnapshot(directory: string): Promise<void> {
    await verifySnapshot(join(directory, "machine"));
  }

  async restore(name: string, directory: string, options: OperationOptions = {}): Promise<void> {
    const definition = await this.#host.definition(name);
    const files = await this.#written(definition);
    const from = join(directory, "machine");
    readSnapshot(from); // damaged ones are refused before a disk is touched
    await this.cleanUp(name);
    await withKeptDisks(files, directory, options, () =>
      startMachine(definition, this.#directories(name), options, (machine, monitor) =>
        Machine.restore(from, machine, monitor),
      ),
    );
  }

  async fork(name: string, clones: readonly string[], options: OperationOptions = {}): Promise<void> {
    const definition = await this.#host.definition(name);
    const files = await this.#written(definition);
    const targets = await Promise.all(
      clones.map(async (clone) => ({
        definition: await this.#host.definition(clone),
        directories: this.#directories(clone),
      })),
    );
    await this.#with(name, (machine) => forkMachine(machine, definition, files, targets, options));
  }

  async migrate(): Promise<void> {
    throw this.#no("migrate");
  }

  async #written(definition: VmDefinition): Promise<WrittenFile[]> {
    return await writtenFiles(definition, (index) => {
      const overlay = definition.disks[index]?.overlay;
      return overlay === "temporary" ? undefined : overlay;
    });
  }

  #directories(name: string): Directories {
    return { state: this.#host.stateDirectory(name), runtime: this.#host.runtimeDirectory(name) };
  }

  #no(feature: Feature): UnsupportedError {
    return unsupported(this.type, CAPABILITIES, feature);
  }

  /** @throws HypervisorError E_STATE where it does not run; VmmError */
  async #connect(name: string): Promise<Machine> {
    const { runtime } = this.#directories(name);
    if (pageOf(runtime)?.alive !== true) {
      throw new HypervisorError("E_STATE", `${name} does not run`, { hint: `v2m start ${name}` });
    }
    return await Machine.connect(runtime);
  }

  async #with<T>(name: string, use: (machine: Machine) => Promise<T>): Promise<T> {
    await using machine = await this.#connect(name);
    return await use(machine);
  }
}
