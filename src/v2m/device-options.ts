// SPDX-License-Identifier: Apache-2.0
/** Options of `v2m run` for devices: `--disk FILE,overlay=temporary --net user --rng`. */
import type { Command } from "commander";
import type { DeviceOptions, DiskOptions, NetOptions, PmemOptions } from "../vmm/devices.js";
import type { PortForward } from "../vmm/passt.js";
import { bare, needed, split, unknown } from "./option-parts.js";
import { parseShm, SHM_HELP } from "./shm-options.js";
import { parseCount, UsageError } from "./values.js";

/** As commander gives them. */
export interface DeviceFlags {
  readonly disk?: readonly string[];
  readonly net?: readonly string[];
  readonly rng?: boolean;
  readonly balloon?: boolean;
  readonly vsock?: string;
  readonly pmem?: readonly string[];
  readonly vfio?: readonly string[];
  readonly shm?: readonly string[];
}

export const DEVICE_HELP = `
Devices (an option may be repeated; a comma in a name is written twice):
  --disk FILE[,ro][,overlay=FILE][,direct][,serial=TEXT]
      overlay=FILE takes all writes, and is made where it does not exist; FILE then is
      only read, and may be shared. overlay=temporary: forgotten at the end.
  --net user | tap[=NAME][,vhost] | link=FD | stream=FD, each with [,mac=MAC][,mtu=N]
      user needs no privileges (passt), and takes [,tcp=PORT[:GUEST]][,udp=…]: ports of
      this host that lead to the guest. FD is a connected socket that v2m inherits.
${SHM_HELP}Without --kernel the first disk's own kernel is booted, with the command line
root=… rw console=ttyS0 and what --append gives behind it.
`;

export const DEVICE_EXAMPLES = `\
  v2m run --disk debian.img,overlay=temporary --net user,tcp=2222:22
  v2m run --disk root.img --disk data.img,direct --net tap=tap0,vhost --rng --cpus 2
  v2m run --disk node.img --vfio 0000:3b:00.1
  v2m run --kernel vmlinuz --initrd initrd.img --shm channel=ring,peer=0
`;

const collect = (value: string, before: readonly string[] | undefined) => [...(before ?? []), value];

export function addDeviceOptions(command: Command): Command {
  return command
    .option("--disk <file>", "a raw disk image, or a block device; see below", collect)
    .option("--net <kind>", "a network interface; see below", collect)
    .option("--rng", "a source of entropy")
    .option("--balloon", "a memory balloon, which gives the guest's free pages back to the host")
    .option("--vsock <cid>", "sockets between host and guest; the guest's context id, from 3")
    .option("--pmem <file>", "a file as persistent memory: FILE[,ro]", collect)
    .option("--vfio <address>", "a PCI function of this host's, bound to vfio-pci: 0000:00:04.0", collect)
    .option("--shm <place>", "a place in a channel of shared memory with other machines; see below", collect);
}

function disk(text: string): DiskOptions {
  const option = "--disk";
  const { first, rest } = split(text, option);
  const found: { -readonly [K in keyof DiskOptions]: DiskOptions[K] } = { path: first };
  for (const { key, value } of rest) {
    if (key === "ro") found.readOnly = bare(option, key, value);
    else if (key === "direct") found.direct = bare(option, key, value);
    else if (key === "overlay") found.overlay = needed(option, key, value);
    else if (key === "serial") found.serial = needed(option, key, value);
    else throw unknown(option, text, key, "ro, overlay=FILE, direct or serial=TEXT");
  }
  return found;
}

/** `tap`, `tap=NAME`, `link=FD`. */
function netKind(first: string, text: string): NetOptions {
  const option = "--net";
  const equals = first.indexOf("=");
  const kind = equals < 0 ? first : first.slice(0, equals);
  const value = equals < 0 ? undefined : first.slice(equals + 1);
  switch (kind) {
    case "user":
      bare(option, kind, value);
      return { kind };
    case "tap":
      return value === undefined ? { kind } : { kind, name: needed(option, kind, value) };
    case "link":
    case "stream":
      return { kind, fd: parseCount(needed(option, kind, value), `${option} ${kind}`, 0, 0x7fff_ffff) };
    default:
      throw unknown(option, text, kind, "user, tap[=NAME], link=FD or stream=FD");
  }
}

/** `2222:22`, `8080`, `0.0.0.0/2222:22`. */
function forward(option: string, key: string, value: string | undefined): PortForward {
  const match = /^(?:([^/]+)\/)?(\d+)(?::(\d+))?$/.exec(needed(option, key, value));
  if (match === null) {
    throw new UsageError(`${option}: ${key}=${value}: no port`, "give a port, as 2222 or 2222:22");
  }
  const port = (text: string) => parseCount(text, `${option} ${key}`, 1, 65535);
  const [, address, host = "", guest] = match;
  return {
    host: port(host),
    ...(guest === undefined ? {} : { guest: port(guest) }),
    ...(address === undefined ? {} : { address }),
  };
}

function net(text: string): NetOptions {
  const option = "--net";
  const { first, rest } = split(text, option);
  const base = netKind(first, text);
  const more: { mac?: string; mtu?: number; vhost?: true; tcp?: PortForward[]; udp?: PortForward[] } = {};
  for (const { key, value } of rest) {
    if (key === "mac") more.mac = needed(option, key, value);
    else if (key === "mtu") more.mtu = parseCount(needed(option, key, value), `${option} mtu`, 68, 65535);
    else if (key === "vhost" && base.kind === "tap") more.vhost = bare(option, key, value);
    else if ((key === "tcp" || key === "udp") && base.kind === "user") {
      more[key] = [...(more[key] ?? []), forward(option, key, value)];
    } else throw unknown(option, text, key, `mac=MAC${base.kind === "tap" ? ", vhost" : ""} or mtu=N`);
  }
  return { ...base, ...more };
}

function pmem(text: string): PmemOptions {
  const { first, rest } = split(text, "--pmem");
  for (const { key, value } of rest) {
    if (key !== "ro") throw unknown("--pmem", text, key, "ro");
    bare("--pmem", key, value);
  }
  return { path: first, readOnly: rest.length > 0 };
}

/** @throws UsageError */
export function parseDevices(flags: DeviceFlags): DeviceOptions {
  return {
    ...(flags.disk === undefined ? {} : { disks: flags.disk.map(disk) }),
    ...(flags.net === undefined ? {} : { nets: flags.net.map(net) }),
    ...(flags.rng === true ? { rng: true } : {}),
    ...(flags.balloon === true ? { balloon: true } : {}),
    ...(flags.vsock === undefined ? {} : { vsock: parseCount(flags.vsock, "--vsock", 3, 0xffff_fffe) }),
    ...(flags.pmem === undefined ? {} : { pmem: flags.pmem.map(pmem) }),
    ...(flags.vfio === undefined ? {} : { vfio: flags.vfio.map((device) => ({ device })) }),
    ...(flags.shm === undefined ? {} : { shm: flags.shm.map(parseShm) }),
  };
}
