// SPDX-License-Identifier: Apache-2.0
/** From a definition to what the monitor makes: a machine's options. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { diskBoot } from "../../../disk/index.js";
import type { OperationOptions } from "../../../vmm/backend.js";
import type {
  DiskOptions,
  MachineOptions,
  MemoryRegion,
  MonitorOptions,
  NetOptions,
  PerformanceOptions,
} from "../../../vmm/index.js";
import type { VmDefinition, VmDisk, VmNic, VmPerformance } from "../../definition/types.js";
import { createEmptyImage, exists } from "../../images.js";
import { HypervisorError } from "../errors.js";

/** The guest finds its CD-ROM, a disk here, by this serial number. */
const CDROM_SERIAL = "cdrom";

/**
 * Make the images that are not there yet.
 * @param made gets the path of each file that was made, also where it fails
 */
export async function prepareDisks(
  { disks, cdrom }: VmDefinition,
  made: string[],
  options: OperationOptions,
): Promise<void> {
  for (const { id, path, size } of disks) {
    if (await exists(path)) continue;
    if (size === undefined) throw missing(`disk ${id}`, path);
    await createEmptyImage(path, "raw", size, options);
    made.push(path);
  }
  if (cdrom !== undefined && !(await exists(cdrom))) throw missing("the CD-ROM", cdrom);
}

function missing(what: string, path: string): HypervisorError {
  return new HypervisorError("E_IO", `${what}: there is no ${path}`, {
    hint: "correct the path; with a size, the image is made",
    errno: "ENOENT",
  });
}

async function diskOptions(disk: VmDisk): Promise<DiskOptions> {
  return {
    path: disk.path,
    readOnly: disk.readOnly,
    direct: disk.direct,
    ...(disk.serial === undefined ? {} : { serial: disk.serial }),
    // One that is read-only takes no writes, with or without an overlay.
    ...(disk.overlay === undefined || disk.readOnly ? {} : { overlay: disk.overlay }),
  };
}

function netOptions(nic: VmNic, fds: number[]): NetOptions {
  const common = { mac: nic.mac, ...(nic.mtu === undefined ? {} : { mtu: nic.mtu }) };
  if (nic.type !== "user") {
    return { ...common, kind: "tap", fd: fds.shift() ?? -1, vhost: nic.vhost };
  }
  const ports = (protocol: "tcp" | "udp") =>
    nic.forward
      .filter((forward) => forward.protocol === protocol)
      .map(({ address, host, guest }) => ({ address, host, guest }));
  return { ...common, kind: "user", tcp: ports("tcp"), udp: ports("udp") };
}

async function bootOptions(
  definition: VmDefinition,
): Promise<Pick<MachineOptions, "kernel" | "kind" | "initrd" | "cmdline" | "loadAddress" | "unpack">> {
  const { boot, disks } = definition;
  if (boot.from === "kernel") {
    const { kernel, kind, initrd, cmdline, loadAddress, unpack } = boot;
    return {
      kernel,
      kind,
      cmdline,
      unpack,
      ...(initrd === undefined ? {} : { initrd }),
      ...(loadAddress === undefined ? {} : { loadAddress }),
    };
  }
  const disk = disks[0];
  if (boot.from !== "disk" || disk === undefined) {
    throw new HypervisorError("E_INVALID", "there is no disk to boot from", { hint: "name one" });
  }
  const found = await diskBoot(disk.path);
  return {
    kernel: found.kernel,
    cmdline: boot.cmdline === "" ? found.cmdline : `${found.cmdline} ${boot.cmdline}`,
    ...(found.initrd === undefined ? {} : { initrd: found.initrd }),
  };
}

/** RAM in one piece, or in one for each NUMA node of the guest. */
function memoryRegions({ memory, performance }: VmDefinition): MemoryRegion[] {
  const { backing, prefault, numaNode } = memory;
  const nodes = performance?.numa ?? [{ bytes: memory.bytes }];
  return nodes.map(({ bytes, hostNode = numaNode }: { bytes: number; hostNode?: number }, node) => ({
    bytes,
    backing,
    prefault,
    ...(hostNode === undefined ? {} : { numaNode: hostNode }),
    ...(performance?.numa === undefined ? {} : { node }),
  }));
}

function performanceOptions({ numa, realtime, gang: _, ...others }: VmPerformance): PerformanceOptions {
  const { vcpus, io } = realtime ?? {};
  return {
    ...others,
    realtime: { ...(vcpus === undefined ? {} : { vcpus }), ...(io === undefined ? {} : { io }) },
    numa: (numa ?? []).map(({ cpus, distances }) => ({
      cpus,
      ...(distances.length === 0 ? {} : { distances }),
    })),
  };
}

/**
 * @param taps open taps in the order of their NICs
 * @param channels directory of the store's channels of shared memory
 */
export async function machineOptions(
  definition: VmDefinition,
  taps: readonly number[],
  channels: string,
): Promise<MachineOptions> {
  const { cpus, topology, pin, performance, cdrom, generationId, vsock, kvm } = definition;
  const fds = [...taps];
  const disks = await Promise.all(definition.disks.map(diskOptions));
  if (cdrom !== undefined) {
    await stat(cdrom);
    disks.push({ path: cdrom, readOnly: true, serial: CDROM_SERIAL });
  }
  return {
    ...(await bootOptions(definition)),
    cpus,
    ...(topology === undefined
      ? {}
      : { coresPerSocket: topology.coresPerSocket, threadsPerCore: topology.threadsPerCore }),
    ...(pin.length === 0 ? {} : { pin }),
    memory: memoryRegions(definition),
    ...(performance === undefined ? {} : { performance: performanceOptions(performance) }),
    disks,
    nets: definition.nics.map((nic) => netOptions(nic, fds)),
    pmem: definition.pmem,
    shm: definition.shm.map(({ channel, peer, peers, size, common, visibleTo }) => ({
      directory: join(channels, channel),
      peer,
      peers,
      areaBytes: size,
      commonBytes: common,
      visibleTo,
    })),
    vfio: definition.vfio,
    rng: definition.rng,
    balloon: definition.balloon,
    powerButton: true,
    onReset: definition.onReset,
    ...(vsock === undefined ? {} : { vsock }),
    ...(generationId === undefined
      ? {}
      : { generationId: generationId === "random" ? "random" : Buffer.from(generationId, "hex") }),
    ...(kvm === undefined ? {} : { kvmPath: kvm }),
  };
}

export function monitorOptions(definition: VmDefinition, directory: string): MonitorOptions {
  const { console, jail, modules, name } = definition;
  return {
    directory,
    name,
    history: console.scrollback,
    jailWithout: jail.without,
    modules: modules.map(({ path }) => path),
    ...(console.log === undefined ? {} : { consoleLog: console.log }),
  };
}
