// SPDX-License-Identifier: Apache-2.0
/** The interrupt side of a VM: irqchip, lines, routing, MSIs, and eventfds at both ends. */
import { ArgumentError } from "../errors.js";
import { viewOf } from "../ffi/struct.js";
import { IoEventFdFlag, Irqchip, IrqFdFlag, IrqRouting } from "./constants.js";
import type { EventFd } from "./eventfd.js";
import type { Handle } from "./handle.js";
import { Vm as V } from "./ioctl.js";
import * as S from "./structs.js";

/** An MSI message: what a device would write where. */
export interface Msi {
  /** 0xfee00000 | destination << 12 on x86. */
  readonly address: bigint;
  /** Vector in the low byte. */
  readonly data: number;
}

/** Where an interrupt line (GSI) leads. */
export type Route =
  | { readonly gsi: number; readonly irqchip: number; readonly pin: number }
  | { readonly gsi: number; readonly msi: Msi };

/** For `ioeventfd`. */
export interface IoEventFdOptions {
  /** Guest-physical address, or port number with `pio`. */
  readonly address: bigint | number;
  /** Length of the write in bytes: 1, 2, 4, 8; 0 takes any. */
  readonly length: 0 | 1 | 2 | 4 | 8;
  readonly pio?: boolean;
  /** Only writes of this value signal. Needs a length. */
  readonly match?: bigint | number;
}

/** Undoes what made it. */
export interface Registration extends Disposable {
  remove(): void;
}

function registration(undo: () => void): Registration {
  let done = false;
  const remove = () => {
    if (!done) {
      done = true;
      undo();
    }
  };
  return { remove, [Symbol.dispose]: remove };
}

const low = (address: bigint) => Number(address & 0xffff_ffffn);
const high = (address: bigint) => Number(address >> 32n);

/** The part of Vm that deals with interrupts and doorbells. */
export abstract class VmInterrupts {
  protected abstract readonly handle: Handle;

  /** Create LAPICs, IOAPIC and PICs in the kernel. Before the first vCPU. */
  createIrqchip(): void {
    this.handle.ioctlValue(V.CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP");
  }

  /** Set the level of a line: an IOAPIC pin, unless routed otherwise. */
  setIrqLine(gsi: number, level: boolean): void {
    const line = S.KvmIrqLevel.alloc({ irq: gsi, level: level ? 1 : 0 });
    this.handle.ioctl(V.IRQ_LINE, "KVM_IRQ_LINE", line);
  }

  /** Replace the table of lines. The default has the PIC's and the IOAPIC's pins. */
  setRouting(routes: readonly Route[]): void {
    const buffer = new Uint8Array(8 + routes.length * S.KvmIrqRoutingEntry.size);
    const view = viewOf(buffer);
    view.setUint32(0, routes.length, true);
    routes.forEach((route, i) => {
      S.KvmIrqRoutingEntry.write(view, 8 + i * S.KvmIrqRoutingEntry.size, {
        gsi: route.gsi,
        type: "msi" in route ? IrqRouting.MSI : IrqRouting.IRQCHIP,
        u:
          "msi" in route
            ? [low(route.msi.address), high(route.msi.address), route.msi.data]
            : [route.irqchip, route.pin],
      });
    });
    this.handle.ioctl(V.SET_GSI_ROUTING, "KVM_SET_GSI_ROUTING", buffer);
  }

  /** Deliver an MSI. Gives how many vCPUs took it: 0 where the guest blocked it. */
  signalMsi(msi: Msi): number {
    const message = S.KvmMsi.alloc({
      address_lo: low(msi.address),
      address_hi: high(msi.address),
      data: msi.data,
    });
    return this.handle.ioctl(V.SIGNAL_MSI, "KVM_SIGNAL_MSI", message);
  }

  /** A write by the guest to `address` signals `event`, and nothing comes out of the kernel. */
  ioeventfd(event: EventFd, options: IoEventFdOptions): Registration {
    const { address, length, pio, match } = options;
    if (match !== undefined && length === 0) {
      throw new ArgumentError("an ioeventfd that matches a value needs a length");
    }
    const request = {
      datamatch: match === undefined ? 0n : BigInt(match),
      addr: BigInt(address),
      len: length,
      fd: event.fd,
      flags: (pio === true ? IoEventFdFlag.PIO : 0) | (match === undefined ? 0 : IoEventFdFlag.DATAMATCH),
    };
    this.handle.ioctl(V.IOEVENTFD, "KVM_IOEVENTFD", S.KvmIoeventfd.alloc(request));
    return registration(() => {
      const undo = { ...request, flags: request.flags | IoEventFdFlag.DEASSIGN };
      this.handle.ioctl(V.IOEVENTFD, "KVM_IOEVENTFD (deassign)", S.KvmIoeventfd.alloc(undo));
    });
  }

  /**
   * Signalling `event` raises the interrupt line. With `resample` the line is level-triggered: it stays up
   * until the guest acknowledges, which signals `resample`.
   */
  irqfd(event: EventFd, gsi: number, resample?: EventFd): Registration {
    const request = {
      fd: event.fd,
      gsi,
      flags: resample === undefined ? 0 : IrqFdFlag.RESAMPLE,
      resamplefd: resample === undefined ? 0 : resample.fd,
    };
    this.handle.ioctl(V.IRQFD, "KVM_IRQFD", S.KvmIrqfd.alloc(request));
    return registration(() => {
      const undo = { ...request, flags: IrqFdFlag.DEASSIGN, resamplefd: 0 };
      this.handle.ioctl(V.IRQFD, "KVM_IRQFD (deassign)", S.KvmIrqfd.alloc(undo));
    });
  }

  #getChip(chip: number): Uint8Array {
    const buffer = S.KvmIrqchip.alloc({ chip_id: chip });
    this.handle.ioctl(V.GET_IRQCHIP, "KVM_GET_IRQCHIP", buffer);
    return buffer;
  }

  getIoapic(): S.IoapicState {
    return S.KvmIoapicState.decode(this.#getChip(Irqchip.IOAPIC), S.KvmIrqchip.offsets.chip);
  }

  /** Change part of the IOAPIC's state; `redirtbl` is given whole or not at all. */
  setIoapic(change: Partial<S.IoapicState>): void {
    const buffer = this.#getChip(Irqchip.IOAPIC);
    S.KvmIoapicState.write(viewOf(buffer), S.KvmIrqchip.offsets.chip as number, change);
    this.handle.ioctl(V.SET_IRQCHIP, "KVM_SET_IRQCHIP", buffer);
  }

  /** @param chip `Irqchip.PIC_MASTER` or `Irqchip.PIC_SLAVE` */
  getPic(chip: 0 | 1): S.PicState {
    return S.KvmPicState.decode(this.#getChip(chip), S.KvmIrqchip.offsets.chip);
  }

  setPic(chip: 0 | 1, change: Partial<S.PicState>): void {
    const buffer = this.#getChip(chip);
    S.KvmPicState.write(viewOf(buffer), S.KvmIrqchip.offsets.chip as number, change);
    this.handle.ioctl(V.SET_IRQCHIP, "KVM_SET_IRQCHIP", buffer);
  }
}
