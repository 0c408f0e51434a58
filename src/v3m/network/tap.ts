// SPDX-License-Identifier: Apache-2.0
/**
 * Tap devices that live as long as somebody has them open. A machine's process gets the open descriptor: however it
 * ends, the kernel removes the device, with its addresses and its place in a bridge. A device that was there before
 * (made for this user with `ip tuntap add`) is used, and stays.
 */
import { close, open } from "node:fs";
import { promisify } from "node:util";
import koffi from "koffi";
import { errnoName } from "../../errors.js";
import type { Bound } from "../../ffi/library.js";
import { denied, NetworkError } from "./errors.js";

const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** struct ifreq: the name, then a union whose first member here is the flags. */
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;

const DEVICE = "/dev/net/tun";

let ioctl: Bound<(fd: number, request: number, argument: Uint8Array) => number> | undefined;

/**
 * Open a tap device, and make it if it is not there. Frames carry the virtio header, as back ends want it.
 * @returns its descriptor; the caller closes it
 * @throws NetworkError E_PERMISSION, E_BUSY (another has it open), E_UNSUPPORTED (no /dev/net/tun)
 */
export async function openTap(name: string): Promise<number> {
  const fd = await promisify(open)(DEVICE, "r+").catch((cause: NodeJS.ErrnoException) => {
    throw cause.code === "EACCES" || cause.code === "EPERM"
      ? denied(`cannot open ${DEVICE}`, { errno: cause.code, cause })
      : new NetworkError("E_UNSUPPORTED", `cannot open ${DEVICE}: ${cause.code}`, {
          hint: "sudo modprobe tun",
          errno: cause.code,
          cause,
        });
  });
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name, 0, IFNAMSIZ - 1, "latin1");
  request.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, IFNAMSIZ);
  ioctl ??= koffi.load("libc.so.6").func("ioctl", "int", ["int", "unsigned long", "void *"]);
  if (ioctl(fd, TUNSETIFF, request) === 0) return fd;
  const errno = errnoName(koffi.errno());
  await promisify(close)(fd);
  throw failure(name, errno);
}

function failure(name: string, errno: string | undefined): NetworkError {
  switch (errno) {
    case "EPERM":
      return denied(`cannot make the tap device ${name}`, { errno });
    case "EBUSY":
      return new NetworkError("E_BUSY", `the tap device ${name} is in use`, {
        hint: "another machine has it: stop it, or give this NIC another tap",
        errno,
      });
    case "EINVAL":
      return new NetworkError("E_INVALID", `${name} is there, and is no tap device`, {
        hint: "ip -d link show shows what it is; give the NIC another tap",
        errno,
      });
    default:
      return new NetworkError("E_NETWORK", `cannot make the tap device ${name}: ${errno}`, {
        hint: "dmesg may say more",
        errno,
      });
  }
}
