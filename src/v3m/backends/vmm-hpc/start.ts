// SPDX-License-Identifier: Apache-2.0
/** From a definition to a machine in its monitor, or to nothing at all. */
import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { OperationOptions } from "../../../vmm/backend.js";
import type { MachineOptions, MonitorOptions } from "../../../vmm/index.js";
import { Machine } from "../../../vmm/machine.js";
import type { VmDefinition } from "../../definition/types.js";
import { dhcpNetworks, openTaps, releaseNetwork, sweepCommand, type Taps } from "../../network/index.js";
import { channelsDirectory } from "../../store/directories.js";
import { startSupervised } from "../../supervise/index.js";
import { machineOptions, monitorOptions, prepareDisks } from "./machine.js";
import { recordMonitor } from "./status.js";

export interface Directories {
  readonly state: string;
  readonly runtime: string;
}

const STEPS = 3;

/** Of the process that serves a translated network, and removes it when the machine has ended. */
export const keeperDirectory = (runtime: string) => join(runtime, "network");

/**
 * What the last machine of this name left is gone.
 * @param make where it is not to begin at its boot: Machine.restore or Machine.clone
 * @throws V3mError; nothing is left then
 */
export async function startMachine(
  definition: VmDefinition,
  { state, runtime }: Directories,
  { signal, onProgress, gate }: OperationOptions = {},
  make: (options: MachineOptions, monitor: MonitorOptions) => Promise<Machine> = Machine.spawn,
): Promise<void> {
  const made: string[] = [];
  let taps: Taps | undefined;
  let machine: Machine | undefined;
  const step = (done: number) => {
    signal?.throwIfAborted();
    onProgress?.({ what: "starting the machine", done, total: STEPS });
  };
  try {
    step(0);
    await mkdir(state, { recursive: true, mode: 0o700 });
    await rm(runtime, { recursive: true, force: true });
    await mkdir(runtime, { recursive: true, mode: 0o700 });
    await prepareDisks(definition, made, signal === undefined ? {} : { signal });
    taps = await openTaps(definition.nics, signal === undefined ? {} : { signal });
    step(1);
    const options = await machineOptions(definition, taps.fds, channelsDirectory(dirname(runtime)));
    machine = await make(options, monitorOptions(definition, runtime));
    step(2);
    const { pid } = machine.monitorInfo();
    await recordMonitor(runtime, pid);
    await keepNetwork(definition, runtime, pid);
    await gate?.();
    signal?.throwIfAborted();
    machine.start();
    for (const { path, argument = "", atStart } of definition.modules) {
      if (atStart) await machine.loadModule(path, argument);
    }
    onProgress?.({ what: "starting the machine", done: STEPS, total: STEPS });
  } catch (error) {
    await machine?.quit().catch(() => {}); // the error at hand says more
    await machine?.dispose();
    machine = undefined;
    taps?.close();
    await releaseNetwork(definition.nics).catch(() => {});
    for (const path of made) await rm(path, { force: true });
    await rm(runtime, { recursive: true, force: true });
    throw error;
  }
  taps.close();
  await machine.dispose();
}

/** A translated network needs somebody who hands out its address and removes its rules: as long as the machine lives. */
async function keepNetwork(definition: VmDefinition, runtime: string, pid: number): Promise<void> {
  const after = sweepCommand(definition.nics);
  if (after.length === 0) return;
  const directory = keeperDirectory(runtime);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await using keeper = await startSupervised({
    directory,
    argv: ["tail", `--pid=${pid}`, "-f", "/dev/null"],
    channels: [],
    sockets: [],
    dhcp: await dhcpNetworks(definition.nics),
    pass: [],
    after,
  });
  keeper.release();
}
