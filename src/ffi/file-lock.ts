// SPDX-License-Identifier: Apache-2.0
/** Open-file-description locks of fcntl(2), with which machines keep their disk images to themselves. */
import koffi from "koffi";
import { errnoName, V3mError } from "../errors.js";

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** struct flock: type, whence, (padding) start, length, pid. All zero but the type: the whole file. */
const FLOCK_BYTES = 32;

type Fcntl = (fd: number, command: number, type: "void *", flock: Uint8Array) => number;

let fcntl: Fcntl | undefined;

function call(fd: number, command: number, lockType: number): { errno: string | undefined; type: number } {
  fcntl ??= koffi.load("libc.so.6").func("int fcntl(int fd, int command, ...)") as unknown as Fcntl;
  const flock = Buffer.alloc(FLOCK_BYTES);
  flock.writeInt16LE(lockType, 0);
  for (;;) {
    if (fcntl(fd, command, "void *", flock) === 0) return { errno: undefined, type: flock.readInt16LE(0) };
    const errno = errnoName(koffi.errno());
    if (errno !== "EINTR") return { errno, type: lockType };
  }
}

/** Whether another opening of the file has a lock on any part of it: a machine, libvmmhpc's or QEMU's, uses it. */
export function isLocked(fd: number): boolean {
  const { errno, type } = call(fd, F_OFD_GETLK, F_WRLCK);
  if (errno !== undefined) throw new V3mError("E_SYSCALL", `fcntl failed: ${errno}`, { errno });
  return type !== F_UNLCK;
}

/** Keep writers out until the descriptor is closed. @returns whether there was none */
export function lockForReading(fd: number): boolean {
  return call(fd, F_OFD_SETLK, F_RDLCK).errno === undefined;
}
