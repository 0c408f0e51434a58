// SPDX-License-Identifier: Apache-2.0
/** flock(2), which Node.js lacks, straight from the C library: nobody needs libvmmhpc to take a lock. */
import koffi from "koffi";
import { errnoName, V3mError } from "../errors.js";

const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

type Flock = (fd: number, operation: number) => number;

let flock: Flock | undefined;

function call(fd: number, operation: number): string | undefined {
  flock ??= koffi.load("libc.so.6").func("int flock(int fd, int operation)") as Flock;
  for (;;) {
    if (flock(fd, operation) === 0) return undefined;
    const errno = errnoName(koffi.errno());
    if (errno !== "EINTR") return errno;
  }
}

/** Take the exclusive lock of an open file, if nobody has it. @returns whether it was free */
export function tryLock(fd: number): boolean {
  const errno = call(fd, LOCK_EX | LOCK_NB);
  // Node's name for EAGAIN, which has the same number on Linux.
  if (errno !== undefined && errno !== "EAGAIN" && errno !== "EWOULDBLOCK") {
    throw new V3mError("E_SYSCALL", `flock failed: ${errno}`, { errno });
  }
  return errno === undefined;
}

/** Give it back; closing the descriptor does so too. */
export function unlock(fd: number): void {
  call(fd, LOCK_UN);
}
