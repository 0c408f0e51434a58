// SPDX-License-Identifier: Apache-2.0
/**
 * Devices of the host's for machines (docs/reference/vfio.md): which PCI functions can be handed on, and what stands
 * in the way of the others. Facts come from sysfs; nothing is changed there.
 */
import { constants } from "node:fs";
import { access, readdir, readFile, readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { ArgumentError, V3mError } from "../errors.js";

export interface VfioOptions {
  /** Address of a PCI function, as `0000:00:04.0` or `00:04.0`. It has to be bound to vfio-pci. */
  readonly device: string;
}

const ADDRESS = /^(?:([0-9a-f]{4}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])$/i;
const DRIVER = "vfio-pci";
/** Drivers that leave a device alone. */
const HARMLESS = [DRIVER, "pci-stub"];
/** Ports of bridges are in groups with what is behind them; nobody uses them by themselves. */
const BRIDGE_CLASS = "0x0604";
/** How the kernel calls a group that has no IOMMU after all. */
const NO_IOMMU = "vfio-noiommu";

/** With its domain, in lower case. @throws ArgumentError */
export function pciAddress(text: string, name: string): string {
  const [, domain = "0000", rest] = ADDRESS.exec(text) ?? [];
  if (rest === undefined) {
    throw new ArgumentError(`${name}: ${JSON.stringify(text)} is not the address of a PCI function`, {
      hint: "such as 0000:00:04.0; lspci -D lists them",
    });
  }
  return `${domain}:${rest}`.toLowerCase();
}

/** A PCI function of this host. */
export interface PciFunction {
  readonly address: string;
  /** Name of the driver that it is bound to. */
  readonly driver: string | undefined;
  /** Number of its IOMMU group; undefined: it is behind no IOMMU. */
  readonly group: string | undefined;
}

const text = (path: string) =>
  readFile(path, "latin1").then(
    (content) => content.trim(),
    () => "",
  );
const linkName = (path: string) =>
  readlink(path).then(
    (target) => basename(target),
    () => undefined,
  );

/** @param root where /sys is; not `/` in tests. @returns undefined where there is none of that address */
export async function pciFunction(address: string, root = "/"): Promise<PciFunction | undefined> {
  const directory = join(root, "sys/bus/pci/devices", address);
  if ((await readdir(directory).catch(() => undefined)) === undefined) return undefined;
  const driver = await linkName(join(directory, "driver"));
  const group = await linkName(join(directory, "iommu_group"));
  const unprotected =
    group !== undefined && (await text(join(root, "sys/kernel/iommu_groups", group, "name"))) === NO_IOMMU;
  return { address, driver, group: unprotected ? undefined : group };
}

/** The others of its group that are bound to a driver of the host's. */
async function neighbours(address: string, group: string, root: string): Promise<PciFunction[]> {
  const all = await readdir(join(root, "sys/kernel/iommu_groups", group, "devices")).catch(() => []);
  const found: PciFunction[] = [];
  for (const other of all.filter((name) => name !== address).sort()) {
    const neighbour = await pciFunction(other, root);
    const isBridge = (await text(join(root, "sys/bus/pci/devices", other, "class"))).startsWith(BRIDGE_CLASS);
    if (neighbour?.driver !== undefined && !HARMLESS.includes(neighbour.driver) && !isBridge) {
      found.push(neighbour);
    }
  }
  return found;
}

/** What binds a function to vfio-pci, as commands. */
function bindCommands({ address, driver }: PciFunction): string {
  const directory = `/sys/bus/pci/devices/${address}`;
  return [
    "sudo modprobe -a vfio-pci vfio_iommu_type1",
    `echo ${DRIVER} | sudo tee ${directory}/driver_override`,
    ...(driver === undefined ? [] : [`echo ${address} | sudo tee ${directory}/driver/unbind`]),
    `echo ${address} | sudo tee /sys/bus/pci/drivers_probe`,
  ].join("; ");
}

const NO_IOMMU_HINT =
  "switch it on in the firmware's set-up and boot with intel_iommu=on or amd_iommu=on; v2m doctor tells what is there";

/**
 * Whether a function can be handed to a machine, without touching it.
 * @param root where /sys and /dev are; not `/` in tests
 * @throws V3mError E_NOT_FOUND (there is no such function), E_NO_IOMMU, E_BUSY (it, or another of its group, is bound
 * to a driver of the host's), E_PERMISSION
 */
export async function checkVfio(address: string, root = "/"): Promise<void> {
  const found = await pciFunction(address, root);
  if (found === undefined) {
    throw new V3mError("E_NOT_FOUND", `there is no PCI function ${address}`, { hint: "lspci -D lists them" });
  }
  const { group, driver } = found;
  if (group === undefined) {
    throw new V3mError("E_NO_IOMMU", `${address} is behind no IOMMU: this host has none, or it is off`, {
      hint: NO_IOMMU_HINT,
    });
  }
  if (driver !== DRIVER) {
    const state = driver === undefined ? "not bound to vfio-pci" : `the host's: ${driver} drives it`;
    throw new V3mError("E_BUSY", `${address} is ${state}`, { hint: bindCommands(found) });
  }
  const others = await neighbours(address, group, root);
  if (others.length > 0) {
    const names = others.map((other) => `${other.address} (${other.driver})`).join(", ");
    throw new V3mError(
      "E_BUSY",
      `${address} shares IOMMU group ${group} with devices that the host uses: ${names}`,
      { hint: `give all of the group away: ${others.map(bindCommands).join("; ")}` },
    );
  }
  await checkNode(join(root, "dev/vfio/vfio"));
  await checkNode(join(root, "dev/vfio", group));
}

async function checkNode(path: string): Promise<void> {
  try {
    await access(path, constants.R_OK | constants.W_OK);
  } catch (cause) {
    const errno = (cause as NodeJS.ErrnoException).code;
    if (errno === "ENOENT") {
      throw new V3mError("E_NO_IOMMU", `there is no ${path}: VFIO is not loaded`, {
        hint: "sudo modprobe -a vfio-pci vfio_iommu_type1",
        errno,
        cause,
      });
    }
    throw new V3mError("E_PERMISSION", `no permission to open ${path} for reading and writing`, {
      hint: `sudo chown $USER ${path}`,
      errno,
      cause,
    });
  }
}
