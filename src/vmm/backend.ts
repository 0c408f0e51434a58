// SPDX-License-Identifier: Apache-2.0
/**
 * The type of a V3M back end: what every hypervisor under the V3M front end implements. A back end answers
 * a verb by doing it, or by failing with `E_UNSUPPORTED` as its capability matrix predicted; nothing else.
 * Declared here, below the front end, so that a back end needs no more than this file.
 */
import type { Duplex } from "node:stream";

/** Types of the 2007 design, and its spelling. */
export type BackendType = "VMM-HPC" | "Qemu" | "Kvm" | "Xen" | "XenHVM" | "VMWare";

/** Everything that a back end can be asked for; rows of the capability matrix. */
export type Feature =
  | "start"
  | "stop"
  | "reset"
  | "pause"
  | "status"
  | "console"
  | "stats"
  | "events"
  | "disks"
  | "image-from-cdrom"
  | "image-from-packages"
  | "snapshot"
  | "restore"
  | "fork"
  | "resize"
  | "migrate"
  | "nic:TUN/TAP"
  | "nic:TUN/TAP+NAT"
  | "nic:BRIDGED_TAP"
  | "nic:VLAN";

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
  readonly kind: "state" | "reset" | "device" | "progress";
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
}

export interface ImageSource {
  readonly kind: "cdrom" | "packages";
  /** Path of the ISO, or name of the package set. */
  readonly from: string;
  readonly to: string;
  /** Bytes. */
  readonly size?: bigint;
}

export interface MigrationOptions extends OperationOptions {
  readonly live?: boolean;
}

/** Counters of a machine, by name; a back end adds its own. */
export type VmStats = Readonly<Record<string, number | bigint>>;

/**
 * @typeParam Definition the front end's VM definition; back ends take the parts that they need.
 * All operations are asynchronous and fail with a V3mError.
 */
export interface Backend<Definition = unknown> {
  readonly type: BackendType;
  probe(): Promise<Probe>;
  /** Check a definition and keep what is needed to start it; nothing runs. */
  define(definition: Definition, options?: OperationOptions): Promise<void>;
  undefine(name: string, options?: OperationOptions): Promise<void>;
  start(name: string, options?: OperationOptions): Promise<void>;
  stop(name: string, options?: OperationOptions & { readonly force?: boolean }): Promise<void>;
  reset(name: string, options?: OperationOptions): Promise<void>;
  pause(name: string, options?: OperationOptions): Promise<void>;
  resume(name: string, options?: OperationOptions): Promise<void>;
  status(name: string): Promise<VmStatus>;
  /** With the output kept since the start (scroll-back) first. */
  console(name: string, options?: OperationOptions): Promise<Duplex>;
  stats(name: string): Promise<VmStats>;
  events(name: string, options?: OperationOptions): AsyncIterable<VmEvent>;
  createImage(source: ImageSource, options?: OperationOptions): Promise<void>;
  snapshot(name: string, directory: string, options?: OperationOptions): Promise<void>;
  restore(name: string, directory: string, options?: OperationOptions): Promise<void>;
  /** @returns names of the clones. */
  fork(name: string, count: number, options?: OperationOptions): Promise<readonly string[]>;
  migrate(name: string, target: string, options?: MigrationOptions): Promise<void>;
}
