// SPDX-License-Identifier: Apache-2.0
/**
 * The type of a V3M back end: what every hypervisor under the V3M front end implements. A back end answers
 * a verb by doing it, or by failing with `E_UNSUPPORTED` as its capability matrix predicted; nothing else.
 * Declared here, below the front end, so that a back end needs no more than this file.
 */
import type { Duplex } from "node:stream";

/** Types of the 2007 design, in its spelling. */
export const KNOWN_TYPES = ["VMM-HPC", "Qemu", "Kvm", "Xen", "XenHVM", "VMWare"] as const;

/** One of the known types, or one that somebody else has registered. */
export type BackendType = (typeof KNOWN_TYPES)[number] | (string & {});

/** Everything that a back end can be asked for; rows of the capability matrix. */
export const FEATURES = [
  // Verbs. `pause` is resume too, `console` is with scroll-back.
  "start",
  "stop",
  "reset",
  "pause",
  "status",
  "console",
  "stats",
  "events",
  "image",
  "image-from-cdrom",
  "image-from-packages",
  "snapshot",
  "restore",
  "fork",
  "resize",
  "migrate",
  // What a definition can ask for.
  "boot:kernel",
  "boot:disk",
  "boot:cdrom",
  "topology",
  "pin",
  "hugepages",
  "io-pin",
  "realtime",
  "without-exits",
  "numa",
  "cache-cores",
  "disks",
  "disk:qcow2",
  "disk:overlay",
  "cdrom",
  "nic:TUN/TAP",
  "nic:TUN/TAP+NAT",
  "nic:BRIDGED_TAP",
  "nic:VLAN",
  "nic:user",
  "nic:vhost",
  "pmem",
  "shm",
  "vfio",
  "rng",
  "balloon",
  "vsock",
  "generation-id",
  "modules",
] as const;
export type Feature = (typeof FEATURES)[number];

export type Capability =
  | { readonly supported: "yes" }
  | { readonly supported: "experimental"; readonly note: string }
  | { readonly supported: "no"; readonly reason: string };

export type CapabilityMatrix = Readonly<Record<Feature, Capability>>;

/** What a back end found on this host. */
export interface Probe {
  readonly type: BackendType;
  /** Whether it can run machines here, and if not what to do about it. */
  readonly usable: boolean;
  readonly reason?: string;
  readonly hint?: string;
  readonly version?: string;
  readonly capabilities: CapabilityMatrix;
}

export type VmState =
  | "defined"
  | "starting"
  | "running"
  | "paused"
  | "stopping"
  | "stopped"
  | "crashed"
  | "migrating";

export interface VmStatus {
  readonly state: VmState;
  /** Why, in one sentence, where there is something to say (a crash, above all). */
  readonly detail?: string;
  /** Process that runs the machine. */
  readonly pid?: number;
}

export interface VmEvent {
  readonly name: string;
  readonly time: Date;
  readonly state?: VmState;
  /** `definition`: the VM was defined, its definition replaced, or the VM removed; `detail` says which. */
  readonly kind: "state" | "reset" | "definition" | "device" | "progress";
  readonly detail?: string;
}

/** How far an operation is; `total` is absent where it cannot be known. */
export interface Progress {
  readonly what: string;
  readonly done: number;
  readonly total?: number;
}

/** Every operation can be aborted, and reports how far it is. */
export interface OperationOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
  /**
   * Of `start`, `pause` and `resume` of a VM that does so together with others: awaited when everything is ready, right
   * before vCPUs run or stop. Where it fails the operation does.
   */
  readonly gate?: () => Promise<void>;
}

/** An image to be made at `to`, which must not exist. Nothing is left there where it fails. */
export type ImageSource<Definition = unknown> =
  | {
      /** Features `image`: an empty disk. */
      readonly kind: "empty";
      readonly to: string;
      readonly format: "raw" | "qcow2";
      /** Bytes. */
      readonly size: number;
    }
  | {
      /** Feature `image-from-packages`: a set of packages is installed on a disk of that size. */
      readonly kind: "packages";
      /** Name of a package set that V3M ships with, or path of one. */
      readonly from: string;
      readonly to: string;
      readonly format: "raw" | "qcow2";
      /** Bytes. Default: what the set says. */
      readonly size?: number;
    }
  | {
      /** Feature `image-from-cdrom`: a system is installed on a disk of that size. */
      readonly kind: "cdrom";
      /** Path of the ISO. */
      readonly from: string;
      readonly to: string;
      readonly format: "raw" | "qcow2";
      /** Bytes. */
      readonly size: number;
      /** The machine in which the installation runs. */
      readonly machine: Definition;
    };

export interface MigrationOptions extends OperationOptions {
  readonly live?: boolean;
}

export interface KeepOptions extends OperationOptions {
  /** Directory of an older snapshot of the same machine: what memory has in common with it need not be kept again. */
  readonly base?: string;
  /** A back end whose snapshots are not compressed fails with E_UNSUPPORTED. */
  readonly compress?: boolean;
}

/** What of a machine's memory a snapshot has. */
export interface KeptMemory {
  /** Bytes that are neither zeroes nor in the base. */
  readonly dataBytes: number;
  /** What they take in the snapshot. */
  readonly storedBytes: number;
  readonly compressed: boolean;
}

/**
 * Counters of a machine, by name; a back end adds its own. Those that V2M shows for all back ends, each where
 * it is known: `cpu_ns` (CPU time of all its threads), `uptime_ns`, `resident_bytes`, `private_bytes`, `exits`
 * (guest-caused), `disk_read_bytes`, `disk_written_bytes`, `net_received_bytes`, `net_sent_bytes`.
 */
export type VmStats = Readonly<Record<string, number | bigint>>;

/** What the front end gives a back end. There is no daemon: what is to be known later is in these directories. */
export interface BackendHost<Definition = unknown> {
  /** @throws V3mError E_NOT_FOUND where no VM of that name is defined. */
  definition(name: string): Promise<Definition>;
  /** A directory of this back end's own for each VM, mode 0700, from `define` to `undefine`. */
  stateDirectory(name: string): string;
  /** The same for sockets and what else may be lost at a reboot; its path is short enough for socket addresses. */
  runtimeDirectory(name: string): string;
}

/**
 * The front end holds the VM's lock in every call but `probe`, `status`, `console`, `stats` and `events`, and has
 * checked that the machine's state and the matrix allow the verb. It is killed at any moment: whatever a call has
 * made must be found by `status` and removed by `cleanUp` of another process.
 *
 * @typeParam Definition the front end's VM definition; back ends take the parts that they need.
 * All operations are asynchronous and fail with a V3mError.
 */
export interface Backend<Definition = unknown> {
  readonly type: BackendType;
  probe(): Promise<Probe>;
  /** Check a definition and keep what is needed to start it; nothing runs. Called again, it replaces the first. */
  define(definition: Definition, options?: OperationOptions): Promise<void>;
  /** Forget the VM. Its images stay. May be repeated. */
  undefine(name: string, options?: OperationOptions): Promise<void>;
  /** Returns when the machine runs. Where it fails or is aborted nothing is left. */
  start(name: string, options?: OperationOptions): Promise<void>;
  /**
   * Ask the guest to power off, and stop it by force when the definition's stop timeout has passed; with `force`
   * at once. Returns when nothing of the machine is left.
   */
  stop(name: string, options?: OperationOptions & { readonly force?: boolean }): Promise<void>;
  reset(name: string, options?: OperationOptions): Promise<void>;
  pause(name: string, options?: OperationOptions): Promise<void>;
  resume(name: string, options?: OperationOptions): Promise<void>;
  /**
   * What the machine is now, whatever was recorded: `running`, `paused`, `stopped` (it powered off, was stopped, or
   * was never started) or `crashed`, with the reason. Takes no lock and changes nothing. The process `pid` of a
   * running or paused machine lives as long as the machine: the front end takes its end for the machine's.
   */
  status(name: string): Promise<VmStatus>;
  /** Remove what a machine that does not run any more left behind: processes, taps, sockets, files. May be repeated. */
  cleanUp(name: string): Promise<void>;
  /** With the output kept since the start (scroll-back) first. */
  console(name: string, options?: OperationOptions): Promise<Duplex>;
  stats(name: string): Promise<VmStats>;
  events(name: string, options?: OperationOptions): AsyncIterable<VmEvent>;
  createImage(source: ImageSource<Definition>, options?: OperationOptions): Promise<void>;
  /**
   * Keep the state of a machine, the disks that it writes to included, in a directory that is not there yet; its parent
   * is. A running machine goes on, whether this succeeds or not. Where it fails the directory is not there. The base may
   * be removed afterwards. A back end whose snapshots have none fails with E_UNSUPPORTED.
   * @returns what it has of the memory, where the back end knows
   */
  snapshot(name: string, directory: string, options?: KeepOptions): Promise<KeptMemory | undefined>;
  /** Start a machine in the state that was kept. Where it fails its disks are as they were before. */
  restore(name: string, directory: string, options?: OperationOptions): Promise<void>;
  /** Read all of a snapshot and compare it with its checksums; absent where there are none. */
  verifySnapshot?(directory: string): Promise<void>;
  /**
   * Start the VMs `clones`, which the front end has defined by `cloneDefinition`, as copies of a machine that runs or
   * is paused, and goes on. Each gets its own generation ID and host name. All run when this returns; where it fails
   * none does.
   */
  fork(name: string, clones: readonly string[], options?: OperationOptions): Promise<void>;
  migrate(name: string, target: string, options?: MigrationOptions): Promise<void>;
}

/** How a back end is registered: what makes one, called at most once in a process. */
export interface BackendFactory<Definition = unknown> {
  readonly type: BackendType;
  create(host: BackendHost<Definition>): Backend<Definition> | Promise<Backend<Definition>>;
}
