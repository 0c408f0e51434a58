// SPDX-License-Identifier: Apache-2.0
/** What the machine boots: a kernel from the host or out of the first disk, or what the firmware finds. */
import { access, constants } from "node:fs/promises";
import { diskBoot } from "../../../disk/index.js";
import { V3mError } from "../../../errors.js";
import type { KernelBoot, VmDefinition } from "../../definition/types.js";
import { UnsupportedError } from "../../errors.js";
import { HypervisorError } from "../errors.js";
import type { QemuKind } from "./kind.js";

/** @throws UnsupportedError for a kernel that QEMU has no loader for */
export function checkBoot(kind: QemuKind, { boot }: VmDefinition): void {
  if (boot.from === "kernel" && (boot.kind === "flat16" || boot.kind === "flat64")) {
    throw new UnsupportedError(kind.type, "boot:kernel", "QEMU loads no flat images");
  }
}

/** QEMU's arguments; the kernel is copied out of the disk where that is needed. */
export async function bootArguments(definition: VmDefinition): Promise<string[]> {
  const { boot } = definition;
  switch (boot.from) {
    case "kernel":
      return await kernelArguments(boot);
    case "disk":
      return await fromDisk(definition, boot.cmdline);
    case "cdrom":
      return FIRMWARE;
  }
}

/** The firmware's own words, and those of boot loaders, go to the serial console. */
const FIRMWARE = ["-machine", "graphics=off", "-boot", "strict=on"];

async function kernelArguments(boot: Pick<KernelBoot, "kernel" | "initrd" | "cmdline">): Promise<string[]> {
  for (const path of [boot.kernel, ...(boot.initrd === undefined ? [] : [boot.initrd])]) {
    await access(path, constants.R_OK).catch((cause: NodeJS.ErrnoException) => {
      throw new HypervisorError("E_IO", `cannot read ${path}: ${cause.code}`, {
        hint: "check the path and its permissions",
        errno: cause.code,
        cause,
      });
    });
  }
  return [
    // As it is: QEMU can reset a machine into a bzImage, but not well into an ELF, which overwrites itself.
    ...["-kernel", boot.kernel],
    ...(boot.initrd === undefined ? [] : ["-initrd", boot.initrd]),
    ...(boot.cmdline === "" ? [] : ["-append", boot.cmdline]),
  ];
}

/** As with VMM-HPC, the kernel that is found in a raw image; from any other, what the firmware finds in it. */
async function fromDisk(definition: VmDefinition, cmdline: string): Promise<string[]> {
  const disk = definition.disks[0];
  if (disk?.format !== "raw") return FIRMWARE;
  try {
    const found = await diskBoot(disk.path);
    return await kernelArguments({
      kernel: found.kernel,
      cmdline: cmdline === "" ? found.cmdline : `${found.cmdline} ${cmdline}`,
      ...(found.initrd === undefined ? {} : { initrd: found.initrd }),
    });
  } catch (error) {
    const nothing = error instanceof V3mError && ["E_BAD_IMAGE", "E_UNSUPPORTED"].includes(error.code);
    if (nothing) return FIRMWARE;
    throw error;
  }
}
