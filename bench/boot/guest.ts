// SPDX-License-Identifier: Apache-2.0
/** The guest that every contender boots: Debian's cloud kernel and an initramfs whose first act is to say so. */
import { createHash } from "node:crypto";
import { copyFile, mkdtemp, readFile, utimes } from "node:fs/promises";
import { join } from "node:path";
import { tinyInit } from "../../harness/common/tiny-init.js";
import { busyboxEntries, cpio, GUEST_READY, storeImage } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";
import { unpackKernel } from "../../src/vmm/unpack.js";

/** The line whose arrival ends a run. */
export const READY = GUEST_READY;
export const COMMAND_LINE = "console=ttyS0 quiet";
/** What V3M adds to the command line of a guest; it would be given to the peers too. There is nothing. */
export const ADDED_PARAMETERS: readonly string[] = [];

export interface Guest {
  readonly version: string;
  readonly bzImage: string;
  readonly vmlinux: string;
  readonly initramfs: string;
}

/** Busybox as in the tests' guests; /init prints the line and then sleeps for good. */
async function initramfs(): Promise<string> {
  const init = tinyInit(`${READY}\n`, ["/bin/sleep", "1000000"]);
  return storeImage(
    "bench",
    cpio([...(await busyboxEntries()), { type: "file", path: "init", data: init, mode: 0o755 }]),
  );
}

/** Build or fetch whatever is missing. To be called where there is a network: outside the nested machine. */
export async function prepareGuest(): Promise<Guest> {
  const kernel = await ensureKernel("cloud");
  return {
    version: kernel.version,
    bzImage: kernel.bzImage,
    vmlinux: await unpackKernel(kernel.bzImage),
    initramfs: await initramfs(),
  };
}

/** The same files in memory, so that no contender waits for a disk or for the nested machine's 9p. */
export async function inMemory(guest: Guest): Promise<Guest> {
  const directory = await mkdtemp("/dev/shm/v3m-bench-");
  const copy = async (from: string, name: string) => {
    const to = join(directory, name);
    await copyFile(from, to);
    // v2m remembers an unpacked kernel by its file's time stamps, but not while they are fresh.
    await utimes(to, 1, 1);
    return to;
  };
  return {
    version: guest.version,
    bzImage: await copy(guest.bzImage, "vmlinuz"),
    vmlinux: await copy(guest.vmlinux, "vmlinux"),
    initramfs: await copy(guest.initramfs, "initramfs.cpio"),
  };
}

export async function fileHash(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}
