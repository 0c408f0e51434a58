// SPDX-License-Identifier: Apache-2.0
/** From the device options of a machine to devices in it: checked first, then opened and added. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ArgumentError, V3mError } from "../errors.js";
import * as native from "../ffi/devices.js";
import type { MachineHandle } from "../ffi/machine.js";
import { raw } from "../ffi/raw.js";
import { addShm } from "../ffi/shm.js";
import { addVfio } from "../ffi/vfio.js";
import { planShm } from "./channel.js";
import type { DeviceOptions, DiskOptions, HvcOptions, NetOptions, PmemOptions } from "./devices.js";
import { whole } from "./options.js";
import { startPasst } from "./passt.js";
import { checkVfio, pciAddress } from "./vfio.js";

const SERIAL_MAX = 20;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;
const FD_MAX = 0x7fff_ffff;

function filePath(path: unknown, name: string): string {
  if (typeof path !== "string" || path === "" || path.includes("\0")) {
    throw new ArgumentError(`${name}: no path`, { hint: "give the path of a file, without NUL characters" });
  }
  return path;
}

interface DiskPlan {
  readonly path: string;
  readonly overlay: string | undefined;
  readonly serial: string | undefined;
  readonly flags: number;
}

function planDisk(disk: DiskOptions, index: number): DiskPlan {
  const name = `disk ${index}`;
  const { serial, overlay } = disk;
  if (serial !== undefined && !new RegExp(`^[ -~]{1,${SERIAL_MAX}}$`).test(serial)) {
    throw new ArgumentError(`${name}: the serial number ${JSON.stringify(serial)} does not fit`, {
      hint: `give 1 to ${SERIAL_MAX} characters of printable ASCII`,
    });
  }
  if (overlay !== undefined && disk.readOnly === true) {
    throw new ArgumentError(`${name}: an overlay takes writes, and a read-only disk has none`, {
      hint: "leave out one of overlay and readOnly",
    });
  }
  let flags = 0;
  if (disk.readOnly === true) flags |= native.BlkFlag.READ_ONLY;
  if (disk.direct === true) flags |= native.BlkFlag.DIRECT;
  if (disk.ioUring === false) flags |= native.BlkFlag.NO_URING;
  return {
    path: filePath(disk.path, name),
    overlay: overlay === undefined ? undefined : filePath(overlay, `${name}: overlay`),
    serial,
    flags,
  };
}

function macBytes(mac: string | undefined, name: string): Uint8Array | undefined {
  if (mac === undefined) {
    return undefined;
  }
  const value = Uint8Array.from(mac.split(":"), (part) => Number.parseInt(part, 16));
  if (!MAC.test(mac) || ((value[0] ?? 0) & 1) !== 0 || value.every((byte) => byte === 0)) {
    throw new ArgumentError(`${name}: ${mac} is not the address of an interface`, {
      hint: "give six bytes such as 52:54:00:12:34:56, the first of them even",
    });
  }
  return value;
}

/** The source of an interface's frames: a descriptor, and how it is given back. */
interface NetSource {
  readonly kind: native.NetKind;
  readonly fd: number;
  readonly vhost?: boolean;
  /** When the machine is gone. */
  readonly end?: () => Promise<void>;
  /** When the machine goes on in another process. */
  readonly leave?: () => void;
  /** The descriptor was opened here: libvmmhpc has its own once the device is there. */
  readonly ours: boolean;
}

interface NetPlan {
  readonly mac?: Uint8Array;
  readonly mtu?: number;
  open(): Promise<NetSource>;
}

const NET_KINDS = ["user", "tap", "link", "stream"] as const;

function netSource(net: NetOptions, name: string): () => Promise<NetSource> {
  switch (net.kind) {
    case "user":
      return async () => {
        const { tcp = [], udp = [] } = net;
        const passt = await startPasst({ tcp, udp });
        return {
          kind: native.NetKind.STREAM,
          fd: passt.fd,
          end: () => passt.close(),
          leave: () => passt.leave(),
          ours: false,
        };
      };
    case "tap": {
      const tap = net.name ?? "tap%d";
      if (
        Buffer.byteLength(tap) > native.TAP_NAME_MAX ||
        !/^[^\s/%\0]*(%d)?[^\s/%\0]*$/.test(tap) ||
        tap === ""
      ) {
        throw new ArgumentError(`${name}: ${JSON.stringify(tap)} is not the name of an interface`, {
          hint: `give at most ${native.TAP_NAME_MAX} bytes, such as tap0`,
        });
      }
      const vhost = net.vhost === true;
      if (net.fd !== undefined) {
        const fd = Number(whole(net.fd, `${name}: the descriptor`, 0, FD_MAX));
        return async () => ({ kind: native.NetKind.TAP, fd, vhost, ours: false });
      }
      return async () => ({ kind: native.NetKind.TAP, fd: native.tapOpen(tap).fd, vhost, ours: true });
    }
    case "link":
    case "stream": {
      const kind = net.kind === "link" ? native.NetKind.LINK : native.NetKind.STREAM;
      const fd = Number(whole(net.fd, `${name}: the descriptor`, 0, FD_MAX));
      return async () => ({ kind, fd, ours: false });
    }
    default:
      throw new ArgumentError(`${name}: unknown kind ${String((net as { kind: unknown }).kind)}`, {
        hint: `one of ${NET_KINDS.join(", ")}`,
      });
  }
}

function planNet(net: NetOptions, index: number): NetPlan {
  const name = `network interface ${index}`;
  const mac = macBytes(net.mac, name);
  const mtu = net.mtu === undefined ? undefined : Number(whole(net.mtu, `${name}: the MTU`, 68, 65535));
  return {
    ...(mac === undefined ? {} : { mac }),
    ...(mtu === undefined ? {} : { mtu }),
    open: netSource(net, name),
  };
}

function planHvc(hvc: HvcOptions): native.HvcSpec {
  const fd = (value: number | undefined, name: string) =>
    value === undefined ? -1 : Number(whole(value, `hvc: ${name}`, 0, FD_MAX));
  const size = (value: number | undefined, name: string) => Number(whole(value ?? 0, name, 0, 65535));
  return {
    inFd: fd(hvc.inFd, "the descriptor to read from"),
    outFd: fd(hvc.outFd, "the descriptor to write to"),
    columns: size(hvc.columns, "hvc: columns"),
    rows: size(hvc.rows, "hvc: rows"),
  };
}

/** 16 bytes. @throws ArgumentError */
export function generationId(id: Uint8Array | "random"): Uint8Array {
  const value = id === "random" ? randomBytes(16) : id;
  if (!(value instanceof Uint8Array) || value.length !== 16) {
    throw new ArgumentError("a generation ID has 16 bytes", { hint: 'give a Uint8Array(16), or "random"' });
  }
  return value;
}

function planVfio({ vfio = [], balloon }: DeviceOptions): readonly string[] {
  const addresses = vfio.map(({ device }, index) => pciAddress(device, `vfio ${index}`));
  const twice = addresses.find((address, index) => addresses.indexOf(address) !== index);
  if (twice !== undefined) {
    throw new ArgumentError(`vfio: ${twice} is named twice`, { hint: "a machine has a device once" });
  }
  if (addresses.length > 0 && balloon === true) {
    throw new ArgumentError(
      "vfio: not together with a balloon: a device may write to memory that was given back",
      {
        hint: "leave out one of them",
      },
    );
  }
  return addresses;
}

/** The devices of a machine, checked; nothing has been opened. */
export interface DevicePlan {
  readonly disks: readonly DiskPlan[];
  readonly nets: readonly NetPlan[];
  readonly rng: boolean;
  readonly hvc: native.HvcSpec | undefined;
  readonly balloon: boolean;
  readonly vsock: bigint | undefined;
  readonly pmem: readonly PmemOptions[];
  /** Each takes its place when it is called: a descriptor, the caller's. */
  readonly shm: readonly (() => Promise<number>)[];
  /** Addresses of PCI functions, each once. */
  readonly vfio: readonly string[];
  readonly generationId: Uint8Array | undefined;
}

/** @throws ArgumentError for devices that no machine can have; libvmmhpc checks the rest. */
export function planDevices(options: DeviceOptions): DevicePlan {
  const { hvc, vsock, generationId: id } = options;
  return {
    disks: (options.disks ?? []).map(planDisk),
    nets: (options.nets ?? []).map(planNet),
    rng: options.rng === true,
    hvc: hvc === undefined ? undefined : planHvc(hvc),
    balloon: options.balloon === true,
    vsock: vsock === undefined ? undefined : whole(vsock, "vsock: the context id", 3, 0xffff_fffe),
    pmem: (options.pmem ?? []).map((file, index) => ({
      path: filePath(file.path, `pmem ${index}`),
      readOnly: file.readOnly === true,
    })),
    shm: (options.shm ?? []).map(planShm),
    vfio: planVfio(options),
    generationId: id === undefined ? undefined : generationId(id),
  };
}

/** What stands behind the devices of a machine and is given back after it. */
export class AttachedDevices {
  readonly #ends: (() => Promise<void>)[] = [];
  readonly #handOvers: (() => void)[] = [];

  /**
   * Add them to a machine that was made and not loaded.
   * @throws VmmError; all that was opened is closed again then, but devices are in the machine
   */
  static async attach(vm: MachineHandle, plan: DevicePlan): Promise<AttachedDevices> {
    const attached = new AttachedDevices();
    try {
      await attached.#attach(vm, plan);
      return attached;
    } catch (error) {
      await attached.release();
      throw error;
    }
  }

  /** After the machine was destroyed. Idempotent. */
  async release(): Promise<void> {
    await Promise.allSettled(this.#ends.splice(0).map((end) => end()));
  }

  /** Instead of `release()`: the machine goes on elsewhere, and what is behind its devices ends with it. */
  handOver(): void {
    this.#ends.length = 0;
    for (const leave of this.#handOvers.splice(0)) {
      leave();
    }
  }

  async #attach(vm: MachineHandle, plan: DevicePlan): Promise<void> {
    for (const disk of plan.disks) {
      await addDisk(vm, disk);
    }
    for (const net of plan.nets) {
      await this.#addNet(vm, net);
    }
    if (plan.rng) native.addRng(vm);
    if (plan.hvc !== undefined) native.addHvc(vm, plan.hvc);
    if (plan.balloon) native.addBalloon(vm);
    if (plan.vsock !== undefined) native.addVsock(vm, plan.vsock);
    for (const { path, readOnly } of plan.pmem) {
      native.addPmem(vm, path, readOnly === true);
    }
    for (const join of plan.shm) {
      const fd = await join();
      try {
        addShm(vm, fd);
      } finally {
        raw.close(fd);
      }
    }
    for (const address of plan.vfio) {
      await checkVfio(address);
      addVfio(vm, address);
    }
    if (plan.generationId !== undefined) native.addGenerationId(vm, plan.generationId);
  }

  async #addNet(vm: MachineHandle, plan: NetPlan): Promise<void> {
    const { mac, mtu } = plan;
    const source = await plan.open();
    if (source.end !== undefined) {
      this.#ends.push(source.end);
    }
    if (source.leave !== undefined) {
      this.#handOvers.push(source.leave);
    }
    try {
      native.addNet(vm, {
        kind: source.kind,
        fd: source.fd,
        vhost: source.vhost === true,
        ...(mac === undefined ? {} : { mac }),
        ...(mtu === undefined ? {} : { mtu }),
      });
    } finally {
      if (source.ours) {
        raw.close(source.fd);
      }
    }
  }
}

async function addDisk(vm: MachineHandle, disk: DiskPlan): Promise<void> {
  const { path, serial, flags } = disk;
  const add = (overlayPath?: string) =>
    native.addBlk(vm, {
      path,
      flags,
      ...(overlayPath === undefined ? {} : { overlayPath }),
      ...(serial === undefined ? {} : { serial }),
    });
  if (disk.overlay === undefined) {
    add();
  } else if (disk.overlay === "temporary") {
    // Once libvmmhpc has it open it needs no name: nothing is left even where this process is killed.
    const directory = await mkdtemp(join(tmpdir(), "v3m-overlay-"));
    try {
      const overlay = join(directory, "overlay");
      native.overlayCreate(overlay, path);
      add(overlay);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  } else {
    const made = await ensureOverlay(disk.overlay, path);
    try {
      add(disk.overlay);
    } catch (error) {
      if (made) {
        await rm(disk.overlay, { force: true });
      }
      throw error;
    }
  }
}

/** @returns whether it was made now */
async function ensureOverlay(overlay: string, base: string): Promise<boolean> {
  if (
    await stat(overlay).then(
      () => true,
      () => false,
    )
  ) {
    return false;
  }
  try {
    native.overlayCreate(overlay, base);
    return true;
  } catch (error) {
    if (error instanceof V3mError && error.errno === "EEXIST") {
      return false; // somebody else was faster
    }
    throw error;
  }
}
