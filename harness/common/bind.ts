// SPDX-License-Identifier: Apache-2.0
/** Drivers of PCI functions, in a testbed's machine: nobody misses a card there. */
import { execFile } from "node:child_process";
import { readlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Give a function a driver of the kernel's, or none. */
export async function bindFunction(address: string, driver: string | undefined): Promise<void> {
  const directory = join("/sys/bus/pci/devices", address);
  const now = await readlink(join(directory, "driver")).then(basename, () => undefined);
  if (now === driver) return;
  if (now !== undefined) await writeFile(join(directory, "driver/unbind"), address);
  if (driver === undefined) return;
  await run("modprobe", driver === "vfio-pci" ? ["-a", driver, "vfio_iommu_type1"] : [driver]);
  await writeFile(join(directory, "driver_override"), driver);
  await writeFile("/sys/bus/pci/drivers_probe", address);
}
