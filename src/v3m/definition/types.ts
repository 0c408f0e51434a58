// SPDX-License-Identifier: Apache-2.0
/**
 * A VM definition as back ends get it: every default filled in, every value checked, every path absolute,
 * deeply frozen, and plain JSON (sizes are numbers of bytes, times milliseconds). What people write is
 * looser: `schema.ts` describes that, `resolve.ts` makes this of it.
 */
import type { BackendType } from "../../vmm/backend.js";

/** What stands behind guest RAM; `huge-2M` and `huge-1G` need pages reserved on the host. */
export type MemoryBacking = "anon" | "thp" | "memfd" | "huge-2M" | "huge-1G";

export interface VmMemory {
  /** RAM in bytes, a multiple of 4 KiB. */
  readonly bytes: number;
  readonly backing: MemoryBacking;
  /** Touch every page before the guest starts. */
  readonly prefault: boolean;
  /** Host NUMA node to take the memory from. */
  readonly numaNode?: number;
}

/** `sockets × coresPerSocket × threadsPerCore` is `cpus`. */
export interface VmTopology {
  readonly sockets: number;
  readonly coresPerSocket: number;
  readonly threadsPerCore: number;
}

/** A NUMA node that the guest sees. */
export interface VmNumaNode {
  /** Its vCPUs; each is in one node. */
  readonly cpus: readonly number[];
  /** Its RAM, a multiple of 4 KiB; `memory.bytes` is the sum. */
  readonly bytes: number;
  /** Host NUMA node to take that from; else `memory.numaNode`. */
  readonly hostNode?: number;
  /** To each node, its own (10) included; empty: 20 to all others. */
  readonly distances: readonly number[];
}

/** What does not leave the guest any more. */
export const UNEXITED = ["halt", "pause"] as const;

/** Beyond `pin`, `topology` and `memory`. Each is applied, or the VM refused. */
export interface VmPerformance {
  /** Host CPUs of the threads that serve devices. */
  readonly ioPin?: readonly number[];
  /** SCHED_FIFO priorities, 1 to 99. */
  readonly realtime?: { readonly vcpus?: number | undefined; readonly io?: number | undefined };
  /** Where it is there each vCPU has a host CPU of its own. */
  readonly withoutExits?: readonly (typeof UNEXITED)[number][];
  readonly numa?: readonly VmNumaNode[];
  /** Neighbouring cores that share a last-level cache. */
  readonly cacheCores?: number;
  /** Name of the group of VMs of the store that start, stop, pause and resume together. */
  readonly gang?: string;
}

/** What kind of file a kernel is; `auto` recognises all but flat images. */
export type KernelKind = "auto" | "bzimage" | "linux" | "pvh" | "multiboot" | "flat16" | "flat64";

/** A kernel from the host's file system. */
export interface KernelBoot {
  readonly from: "kernel";
  readonly kernel: string;
  readonly kind: KernelKind;
  readonly initrd?: string;
  /** Kernel command line; empty where none was given. */
  readonly cmdline: string;
  /** Flat images: guest-physical address of the first byte and of the entry. */
  readonly loadAddress?: number;
  /** Unpack a compressed bzImage on the host, where the back end can. */
  readonly unpack: boolean;
}

/** The system on the first disk: by firmware, or by the kernel found in it. */
export interface DiskBoot {
  readonly from: "disk";
  /** Appended to the command line, where the back end takes the kernel out of the disk. */
  readonly cmdline: string;
}

/** The CD-ROM, as for an installation. `VmDefinition.cdrom` is there. */
export interface CdromBoot {
  readonly from: "cdrom";
}

export type VmBoot = KernelBoot | DiskBoot | CdromBoot;

export interface VmDisk {
  /** Unique in the VM: `[a-z][a-z0-9_-]{0,31}`; `disk0` is the first one's where none was given. */
  readonly id: string;
  /** An image file or a block device. */
  readonly path: string;
  /** The image of the store that the definition names; `path`, `format` and `overlay` are its. */
  readonly image?: string;
  readonly format: "raw" | "qcow2";
  /** Bytes, a multiple of 512: the image is made with this size where it does not exist. */
  readonly size?: number;
  readonly readOnly: boolean;
  /** A file that takes all writes, made where it does not exist; `temporary`: forgotten when the machine stops. */
  readonly overlay?: string;
  /** Past the host's page cache (O_DIRECT). */
  readonly direct: boolean;
  /** Shown to the guest: 1 to 20 bytes of printable ASCII. */
  readonly serial?: string;
}

interface AnyNic {
  /** `nic1`, `nic2`, … in the order of the definition. */
  readonly id: string;
  /** Six bytes in lower case, `52:54:00:12:34:56`: given, or derived from the VM's UUID and the interface's number. */
  readonly mac: string;
  /** The largest packet that the guest should send, 68 to 65535 bytes; not told to the guest where absent. */
  readonly mtu?: number;
}

interface AnyTapNic extends AnyNic {
  /** Name of the host's tap device, at most 15 bytes: given, or derived from the UUID and the interface's number. */
  readonly tap: string;
  /** Let the host's vhost-net move the data. */
  readonly vhost: boolean;
}

/** A tap device, and the host's end of it. */
export interface TapNic extends AnyTapNic {
  readonly type: "TUN/TAP";
  /** Address of the host's end with its prefix length, `192.0.2.1/24`; none: the tap gets no address. */
  readonly address?: string;
}

/** A tap device whose network the host translates to its own address. */
export interface NatNic extends AnyTapNic {
  readonly type: "TUN/TAP+NAT";
  readonly range: NatRange;
}

/** The network between host and guest: IPv4, the host has the first address, the guest is to take the second. */
export interface NatRange {
  /** First address of the network, `10.77.12.0`. */
  readonly network: string;
  /** 8 to 30. */
  readonly prefix: number;
  readonly host: string;
  readonly guest: string;
}

/** A tap device in a bridge of the host's, which must exist. */
export interface BridgedNic extends AnyTapNic {
  readonly type: "BRIDGED_TAP";
  readonly bridge: string;
}

/** A tap device whose frames travel in an 802.1Q VLAN on an interface of the host's, which must exist. */
export interface VlanNic extends AnyTapNic {
  readonly type: "VLAN";
  readonly parent: string;
  /** 1 to 4094. */
  readonly vlan: number;
}

/** The user's own network, without privileges. */
export interface UserNic extends AnyNic {
  readonly type: "user";
  /** Ports of the host's that lead to the guest. */
  readonly forward: readonly PortForward[];
}

export interface PortForward {
  readonly protocol: "tcp" | "udp";
  /** Address of the host's to listen at. */
  readonly address: string;
  readonly host: number;
  readonly guest: number;
}

export type VmNic = TapNic | NatNic | BridgedNic | VlanNic | UserNic;

export type NicType = VmNic["type"];

export interface VmConsole {
  /** Bytes of output kept for those who attach later. */
  readonly scrollback: number;
  /** File that gets all output as well, appended. */
  readonly log?: string;
}

/** A place in a channel of shared memory between VMs of one store. */
export interface VmShm {
  /** Name of the channel, the same in all its VMs. */
  readonly channel: string;
  /** This VM's id in it. */
  readonly peer: number;
  /** 2 to 64, the same in all its VMs. */
  readonly peers: number;
  /** Bytes of each peer's area, a multiple of 4 KiB, the same in all its VMs. */
  readonly size: number;
  /** Bytes of what all peers write, a multiple of 4 KiB, the same in all its VMs; 0: nothing. */
  readonly common: number;
  /** Ids of those that may read its area and ring its doorbells. */
  readonly visibleTo: "all" | readonly number[];
}

/** A device of the host's that the VM gets. */
export interface VmVfio {
  /** Address of its PCI function, with the domain: `0000:00:04.0`. */
  readonly device: string;
}
export const SHM_DEFAULTS = { peers: 2, size: 2 ** 20, common: 0 } as const;

/** Names of channels, disks and modules. */
export const IDENTIFIER = {
  pattern: "^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$",
  help: "1 to 32 letters, digits, hyphens and underscores",
} as const;

export interface VmPmem {
  /** A file of a multiple of 2 MiB. */
  readonly path: string;
  readonly readOnly: boolean;
}

/** An adaptation module: a shared object, named when the VM is defined since a jail has no file system. */
export interface VmModule {
  readonly name: string;
  readonly path: string;
  /** Handed to the module when it is loaded. */
  readonly argument?: string;
  /** Load it when the machine starts; else when it is asked for. */
  readonly atStart: boolean;
}

/** Parts of the monitor's jail that a host may be unable to set up. */
export const JAIL_PARTS = [
  "user-ns",
  "root",
  "pid-ns",
  "net-ns",
  "ipc-ns",
  "uts-ns",
  "cgroup-ns",
  "capabilities",
  "no-new-privs",
  "rlimits",
  "seccomp",
] as const;
export type JailPart = (typeof JAIL_PARTS)[number];

export interface VmDefinition {
  /** Version of this form. */
  readonly version: 1;
  /** Safe as a file name: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`. */
  readonly name: string;
  readonly type: BackendType;
  /** The back end's own variant: attribute `option` of the 2007 profile's `type`. */
  readonly option?: string;
  readonly description?: string;
  /** Lower case, `8-4-4-4-12`. The same name defined again without one gets the same. */
  readonly uuid: string;
  /** At least 1; the back end knows its limit. */
  readonly cpus: number;
  readonly topology?: VmTopology;
  /** Host CPU of each vCPU's thread; vCPU i takes element i modulo the length. Empty: any. */
  readonly pin: readonly number[];
  readonly memory: VmMemory;
  readonly performance?: VmPerformance;
  readonly boot: VmBoot;
  readonly disks: readonly VmDisk[];
  /** Path of an ISO image or of a drive. */
  readonly cdrom?: string;
  readonly nics: readonly VmNic[];
  readonly pmem: readonly VmPmem[];
  readonly shm: readonly VmShm[];
  readonly vfio: readonly VmVfio[];
  readonly console: VmConsole;
  readonly rng: boolean;
  readonly balloon: boolean;
  /** Context id of sockets between host and guest, 3 to 2^32 - 2. */
  readonly vsock?: number;
  /** `random`: a new one at each start and restore; else 32 hexadecimal digits. */
  readonly generationId?: string;
  /** What a guest's reset does. */
  readonly onReset: "reboot" | "stop";
  /** How long `stop` waits for the guest to power off before it is stopped by force, milliseconds. */
  readonly stopTimeoutMs: number;
  /** Instead of /dev/kvm. */
  readonly kvm?: string;
  readonly jail: { readonly without: readonly JailPart[] };
  readonly modules: readonly VmModule[];
  /** The user's own notes on the VM; back ends ignore them. */
  readonly labels: Readonly<Record<string, string>>;
}
