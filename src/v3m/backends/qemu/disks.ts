// SPDX-License-Identifier: Apache-2.0
/** Disks of a definition: their files on the host, and what QEMU is told about them. */
import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { looksLikeOverlay } from "../../../images/overlay-file.js";
import type { OperationOptions } from "../../../vmm/backend.js";
import type { VmDefinition, VmDisk } from "../../definition/types.js";
import { createEmptyImage, createOverlay, exists } from "../../images.js";
import { HypervisorError } from "../errors.js";

/** Files that a start has made: it removes them if it fails. */
export type MadeFiles = string[];

/** What takes the writes of a disk with an overlay. */
export function overlayPath(disk: VmDisk, stateDirectory: string): string | undefined {
  return disk.overlay === "temporary" ? join(stateDirectory, `temporary-${disk.id}.qcow2`) : disk.overlay;
}

/**
 * Make the images and overlays that are not there yet; a temporary overlay is made anew.
 * @param made gets the path of each file that was made, also where it fails
 * @param kept temporary overlays are those of a snapshot
 */
export async function prepareDisks(
  definition: VmDefinition,
  stateDirectory: string,
  made: MadeFiles,
  options: OperationOptions,
  kept = false,
): Promise<void> {
  for (const disk of definition.disks) {
    if (!(await exists(disk.path))) {
      if (disk.size === undefined) throw missing(`disk ${disk.id}`, disk.path);
      await createEmptyImage(disk.path, disk.format, disk.size, options);
      made.push(disk.path);
    }
    const overlay = overlayPath(disk, stateDirectory);
    if (overlay !== undefined) {
      if (disk.overlay === "temporary" && !kept) await rm(overlay, { force: true });
      if (!(await exists(overlay))) {
        await createOverlay(overlay, disk, options);
        made.push(overlay);
      } else await refuseOverlay(disk, overlay);
    }
  }
  if (definition.cdrom !== undefined && !(await exists(definition.cdrom))) {
    throw missing("the CD-ROM", definition.cdrom);
  }
}

/** @throws HypervisorError E_UNSUPPORTED for an overlay of VMM-HPC's */
async function refuseOverlay(disk: VmDisk, path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    if (!(await looksLikeOverlay(file))) return;
  } finally {
    await file.close();
  }
  const name = disk.image ?? "IMAGE";
  throw new HypervisorError("E_UNSUPPORTED", `disk ${disk.id}: ${path} is an overlay of VMM-HPC's`, {
    hint: `v2m image convert ${name} NEW --to qcow2 makes a disk that QEMU knows`,
  });
}

/** Remove the overlays that are not to outlive the machine. */
export async function removeTemporaryOverlays(
  definition: VmDefinition,
  stateDirectory: string,
): Promise<void> {
  for (const disk of definition.disks) {
    if (disk.overlay === "temporary") await rm(overlayPath(disk, stateDirectory) ?? "", { force: true });
  }
}

function missing(what: string, path: string): HypervisorError {
  return new HypervisorError("E_IO", `${what}: there is no ${path}`, {
    hint: "correct the path; with a size, the image is made",
    errno: "ENOENT",
  });
}

/** Node of the block layer that the guest's disk is, by the disk's number. */
export function diskNode(index: number): string {
  return `disk${index}`;
}

/** QEMU's arguments. */
export async function diskArguments(definition: VmDefinition, stateDirectory: string): Promise<string[]> {
  const disks = await Promise.all(
    definition.disks.map((disk, index) => oneDisk(definition, disk, index, stateDirectory)),
  );
  return [...disks.flat(), ...(await cdromArguments(definition))];
}

async function oneDisk(
  definition: VmDefinition,
  disk: VmDisk,
  index: number,
  stateDirectory: string,
): Promise<string[]> {
  const overlay = overlayPath(disk, stateDirectory);
  const node = diskNode(index);
  const baseNode = overlay === undefined ? node : `base${index}`;
  const base = await image(baseNode, disk.path, disk.format, disk.readOnly || overlay !== undefined, disk);
  const top = overlay === undefined ? [] : await image(node, overlay, "qcow2", disk.readOnly, disk, baseNode);
  const device = {
    driver: "virtio-blk-pci",
    id: `vd${index}`,
    drive: node,
    ...(disk.serial === undefined ? {} : { serial: disk.serial }),
    ...(definition.boot.from === "disk" ? { bootindex: index + 1 } : {}),
  };
  return [...base, ...top, "-device", JSON.stringify(device)];
}

async function image(
  node: string,
  path: string,
  driver: "raw" | "qcow2",
  readOnly: boolean,
  disk: VmDisk,
  backing?: string,
): Promise<string[]> {
  const file = {
    driver: (await stat(path)).isBlockDevice() ? "host_device" : "file",
    "node-name": `${node}-file`,
    filename: path,
    "read-only": readOnly,
    discard: "unmap",
    cache: { direct: disk.direct },
  };
  const format = {
    driver,
    "node-name": node,
    file: file["node-name"],
    "read-only": readOnly,
    discard: "unmap",
    cache: { direct: disk.direct },
    ...(backing === undefined ? {} : { backing }),
  };
  return ["-blockdev", JSON.stringify(file), "-blockdev", JSON.stringify(format)];
}

async function cdromArguments(definition: VmDefinition): Promise<string[]> {
  if (definition.cdrom === undefined) return [];
  const drive = (await stat(definition.cdrom)).isBlockDevice();
  const node = {
    driver: drive ? "host_cdrom" : "file",
    "node-name": "cdrom",
    filename: definition.cdrom,
    "read-only": true,
  };
  const device = {
    driver: "ide-cd",
    id: "cd0",
    drive: "cdrom",
    ...(definition.boot.from === "cdrom" ? { bootindex: 1 } : {}),
  };
  return ["-blockdev", JSON.stringify(node), "-device", JSON.stringify(device)];
}
