// SPDX-License-Identifier: Apache-2.0
/** QEMU's command line for a definition. */
import { stat } from "node:fs/promises";
import type { VmDefinition, VmMemory, VmNic, VmNumaNode, VmPmem } from "../../definition/types.js";
import { bootArguments } from "./boot.js";
import { diskArguments } from "./disks.js";
import { cpuModel, type QemuKind, qemuProgram } from "./kind.js";

/** Numbers of the descriptors that v3m-supervise gives QEMU. */
export const CONSOLE_FD = 100;
export const EVENTS_FD = 101;
export const QMP_FD = 102;
/** Of the first tap device; the others follow. */
export const FIRST_TAP_FD = 3;

export const MACHINES = ["q35", "pc"] as const;

const MIB = 1 << 20;

/** The arguments, the program's name first. `stateDirectory` holds temporary overlays. */
export async function qemuArguments(
  kind: QemuKind,
  definition: VmDefinition,
  stateDirectory: string,
): Promise<string[]> {
  return [
    qemuProgram(),
    ...["-nodefaults", "-no-user-config", "-display", "none", "-S"],
    ...["-name", `guest=${definition.name},debug-threads=on`, "-uuid", definition.uuid],
    ...machine(kind, definition),
    ...sandbox(definition),
    ...(await memory(definition)),
    ...["-chardev", `socket,id=console,fd=${CONSOLE_FD}`, "-serial", "chardev:console"],
    ...["-chardev", `socket,id=events,fd=${EVENTS_FD}`, "-mon", "chardev=events,mode=control"],
    ...["-chardev", `socket,id=qmp,fd=${QMP_FD},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
    // Guest time: the clock of the machine stands still while it is paused. A panic that the guest reports ends it.
    ...["-rtc", "base=utc,clock=vm", "-device", "pvpanic", "-action", "panic=shutdown"],
    ...(definition.onReset === "stop" ? ["-action", "reboot=shutdown"] : []),
    ...(await bootArguments(definition)),
    ...(await diskArguments(definition, stateDirectory)),
    ...nics(definition.nics),
    ...(await pmems(definition.pmem)),
    ...extras(definition),
  ];
}

function machine(kind: QemuKind, definition: VmDefinition): string[] {
  const { topology, cpus } = definition;
  const shape =
    topology === undefined
      ? ""
      : `,sockets=${topology.sockets},cores=${topology.coresPerSocket},threads=${topology.threadsPerCore}`;
  const backend = definition.performance?.numa === undefined ? ",memory-backend=ram" : "";
  const nvdimm = definition.pmem.some(({ readOnly }) => readOnly) ? ",nvdimm=on" : "";
  return [
    ...["-machine", `${definition.option ?? "q35"}${backend}${nvdimm}`],
    ...["-accel", kind.accelerator, "-cpu", cpuModel(kind), "-smp", `cpus=${cpus}${shape}`],
  ];
}

/** QEMU gives up system calls that it does not need; which program to run is not for a guest to say. */
function sandbox(definition: VmDefinition): string[] {
  const denied = ["obsolete", "elevateprivileges", "spawn", "resourcecontrol"];
  return definition.jail.without.includes("seccomp")
    ? []
    : ["-sandbox", `on,${denied.map((set) => `${set}=deny`).join(",")}`];
}

async function memory({ memory: ram, pmem, performance }: VmDefinition): Promise<string[]> {
  const sizes = await Promise.all(pmem.map(async ({ path }) => (await stat(path)).size));
  const most = sizes.reduce((sum, size) => sum + size, ram.bytes);
  const more = pmem.length === 0 ? "" : `,slots=${pmem.length},maxmem=${most / 1024}k`;
  const size = ["-m", `size=${ram.bytes / 1024}k${more}`];
  return performance?.numa === undefined
    ? [...size, "-object", JSON.stringify(ramBackend("ram", ram))]
    : [...size, ...numa(performance.numa, ram)];
}

/** NUMA nodes of the guest, each with its own RAM; their distances when all are known. */
function numa(all: readonly VmNumaNode[], ram: VmMemory): string[] {
  const nodes = all.flatMap(({ cpus, bytes, hostNode = ram.numaNode }, node) => {
    const own = { ...ram, bytes, ...(hostNode === undefined ? {} : { numaNode: hostNode }) };
    const vcpus = cpus.map((cpu) => `,cpus=${cpu}`).join("");
    return [
      ...["-object", JSON.stringify(ramBackend(`ram${node}`, own))],
      ...["-numa", `node,nodeid=${node},memdev=ram${node}${vcpus}`],
    ];
  });
  const distances = all.flatMap((from, src) =>
    from.distances.flatMap((val, dst) => ["-numa", `dist,src=${src},dst=${dst},val=${val}`]),
  );
  return [...nodes, ...distances];
}

function ramBackend(id: string, ram: VmMemory): Record<string, unknown> {
  const huge = ram.backing === "huge-2M" ? 2 * MIB : ram.backing === "huge-1G" ? 1024 * MIB : undefined;
  const shared = huge !== undefined || ram.backing === "memfd";
  return {
    "qom-type": shared ? "memory-backend-memfd" : "memory-backend-ram",
    id,
    size: ram.bytes,
    prealloc: ram.prefault,
    ...(huge === undefined ? {} : { hugetlb: true, hugetlbsize: huge }),
    ...(ram.numaNode === undefined ? {} : { "host-nodes": [ram.numaNode], policy: "bind" }),
  };
}

function nics(all: readonly VmNic[]): string[] {
  let tapFd = FIRST_TAP_FD;
  return all.flatMap((nic, index) => {
    const id = `net${index}`;
    const device = {
      driver: "virtio-net-pci",
      id: `nic${index}`,
      netdev: id,
      mac: nic.mac,
      romfile: "", // no network boot
      ...(nic.mtu === undefined ? {} : { host_mtu: nic.mtu }),
    };
    const forwards =
      nic.type === "user"
        ? nic.forward.map(
            ({ protocol, address, host, guest }) => `,hostfwd=${protocol}:${address}:${host}-:${guest}`,
          )
        : [];
    const netdev =
      nic.type === "user"
        ? `user,id=${id}${forwards.join("")}`
        : `tap,id=${id},fd=${tapFd++}${nic.vhost ? ",vhost=on" : ""}`;
    return ["-netdev", netdev, "-device", JSON.stringify(device)];
  });
}

async function pmems(all: readonly VmPmem[]): Promise<string[]> {
  const each = await Promise.all(
    all.map(async ({ path, readOnly }, index) => {
      const memdev = `pmem${index}`;
      const backend = {
        "qom-type": "memory-backend-file",
        id: memdev,
        "mem-path": path,
        size: (await stat(path)).size,
        share: true,
        readonly: readOnly,
      };
      // Only an NVDIMM can be read-only.
      const device = readOnly
        ? { driver: "nvdimm", id: `nv${index}`, memdev, unarmed: true }
        : { driver: "virtio-pmem-pci", id: `nv${index}`, memdev };
      return ["-object", JSON.stringify(backend), "-device", JSON.stringify(device)];
    }),
  );
  return each.flat();
}

function extras({ vfio, rng, balloon, vsock, generationId }: VmDefinition): string[] {
  const device = (properties: Record<string, unknown>) => ["-device", JSON.stringify(properties)];
  const guid = generationId?.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  return [
    ...vfio.flatMap(({ device: host }, index) => device({ driver: "vfio-pci", id: `vfio${index}`, host })),
    ...(rng
      ? ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
      : []),
    ...(balloon ? device({ driver: "virtio-balloon-pci", id: "balloon", "free-page-reporting": true }) : []),
    ...(vsock === undefined ? [] : device({ driver: "vhost-vsock-pci", "guest-cid": vsock })),
    ...(guid === undefined ? [] : device({ driver: "vmgenid", guid: guid === "random" ? "auto" : guid })),
  ];
}
