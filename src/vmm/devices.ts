// SPDX-License-Identifier: Apache-2.0
/**
 * The devices of a machine that libvmmhpc itself models, in the words of TypeScript. (Device models in TypeScript
 * are in device.ts; what becomes of these options is in device-plan.ts.)
 */
import * as native from "../ffi/devices.js";
import type { MachineHandle } from "../ffi/machine.js";
import { raw } from "../ffi/raw.js";
import type { ShmOptions } from "./channel.js";
import { whole } from "./options.js";
import type { PortForward } from "./passt.js";
import type { VfioOptions } from "./vfio.js";

/** A disk (virtio-blk): a raw file or a block device, as it is or below an overlay. */
export interface DiskOptions {
  readonly path: string;
  /** The guest may not write. Default false. */
  readonly readOnly?: boolean;
  /**
   * A file that takes all writes, `path` being only read, so that many machines may share it; made where it
   * does not exist. `temporary`: one of this machine's own, in the directory for temporary files (`$TMPDIR`),
   * which is gone when the machine is, however it ends. A file of that name is `./temporary`.
   */
  readonly overlay?: string;
  /** Past the host's page cache (O_DIRECT), where the host's file system can. Default false. */
  readonly direct?: boolean;
  /** Shown to the guest (`/dev/disk/by-id/virtio-…`): at most 20 bytes of printable ASCII. */
  readonly serial?: string;
  /** false: a thread does the work even where the host has io_uring. Default true. */
  readonly ioUring?: boolean;
}

interface AnyNet {
  /** `52:54:00:12:34:56`. Default: derived from the machine and the place of the device in it. */
  readonly mac?: string;
  /** The largest packet that the guest should send, 68 to 65535 bytes. Default: not told to the guest. */
  readonly mtu?: number;
}

/** The user's own network, without privileges: what the guest sends leaves this host as passt's own. */
export interface UserNet extends AnyNet {
  readonly kind: "user";
  /** Ports of this host's that lead to the guest. Default: none. */
  readonly tcp?: readonly PortForward[];
  readonly udp?: readonly PortForward[];
}

/** A tap device of the host's; opening one needs CAP_NET_ADMIN, or one that was made for this user. */
export interface TapNet extends AnyNet {
  readonly kind: "tap";
  /** At most 15 bytes; `%d` becomes a number. One that does not exist is made. Default `tap%d`. */
  readonly name?: string;
  /** A tap device that is open already, with the virtio header on its frames; it stays the caller's. */
  readonly fd?: number;
  /** Let the host's vhost-net move the data. Default false. */
  readonly vhost?: boolean;
}

/** A link to another machine: one end of `openLink()`. */
export interface LinkNet extends AnyNet {
  readonly kind: "link";
  /** A connected UNIX SOCK_SEQPACKET socket. It stays the caller's. */
  readonly fd: number;
}

/** Whatever speaks frames after their length (4 bytes, big-endian): QEMU's `-netdev stream`, passt. */
export interface StreamNet extends AnyNet {
  readonly kind: "stream";
  /** A connected UNIX stream socket. It stays the caller's. */
  readonly fd: number;
}

/** A network interface (virtio-net) with one pair of queues. */
export type NetOptions = UserNet | TapNet | LinkNet | StreamNet;

/** A second console (`/dev/hvc0` in the guest) on descriptors, which stay the caller's. */
export interface HvcOptions {
  /** What the guest reads. Default: nothing. */
  readonly inFd?: number;
  /** Where it writes. Default: nowhere. */
  readonly outFd?: number;
  readonly columns?: number;
  readonly rows?: number;
}

/** Persistent memory (`/dev/pmem0` in the guest). */
export interface PmemOptions {
  /** A file of a multiple of 2 MiB. */
  readonly path: string;
  /** Many machines may share the file; what a guest writes is its own, and lost at its end. Default false. */
  readonly readOnly?: boolean;
}

/** The devices among the options of a machine. Each is a PCI device; they get slots in this order. */
export interface DeviceOptions {
  readonly disks?: readonly DiskOptions[];
  readonly nets?: readonly NetOptions[];
  /** Entropy from the host. Default false. */
  readonly rng?: boolean;
  readonly hvc?: HvcOptions;
  /** A memory balloon, which also gives free pages back by itself: see `Machine.balloon`. Default false. */
  readonly balloon?: boolean;
  /** Sockets between host and guest: the guest's context id, 3 to 2^32 - 2, unique on the host. */
  readonly vsock?: number;
  readonly pmem?: readonly PmemOptions[];
  /** Places in channels of shared memory between machines. */
  readonly shm?: readonly ShmOptions[];
  /** PCI functions of this host's, handed on. Pins all of the machine's memory; not together with a balloon. */
  readonly vfio?: readonly VfioOptions[];
  /**
   * A VM generation ID: 16 bytes, or `random`. The guest reseeds its random numbers when
   * `Machine.setGenerationId` changes it.
   */
  readonly generationId?: Uint8Array | "random";
}

/** Two machines' link: each takes an end as `{ kind: "link", fd }`. Close it when both were made. */
export interface Link {
  readonly ends: readonly [number, number];
  close(): void;
}

export function openLink(): Link {
  const ends = native.linkOpen();
  let open = true;
  return {
    ends,
    close() {
      if (open) {
        open = false;
        for (const fd of ends) {
          raw.close(fd);
        }
      }
    },
  };
}

/** What the balloon holds, in bytes. */
export interface BalloonState {
  /** What the guest was asked to give up. */
  readonly target: bigint;
  /** What it has given up. */
  readonly actual: bigint;
  /** What it gave back by itself, by free-page reporting, in all. */
  readonly reported: bigint;
}

/** The memory balloon of a machine that has one (`balloon: true`). */
export class Balloon {
  readonly #handle: () => MachineHandle;

  constructor(handle: () => MachineHandle) {
    this.#handle = handle;
  }

  /** @throws VmmError where the machine has none */
  get(): BalloonState {
    const state = native.balloonGet(this.#handle());
    return { target: state.target_bytes, actual: state.actual_bytes, reported: state.reported_bytes };
  }

  /** Ask the guest to give up so much of its memory; it takes its time, and may refuse. */
  set(bytes: number | bigint): void {
    native.balloonSet(this.#handle(), whole(bytes, "the balloon's size"));
  }
}
