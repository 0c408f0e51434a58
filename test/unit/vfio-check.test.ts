// SPDX-License-Identifier: Apache-2.0
/** Which PCI functions can be handed on, read from trees like those of /sys and /dev. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkVfio, pciAddress, pciFunction } from "../../src/vmm/vfio.js";

const NIC = "0000:00:04.0";
const OTHER = "0000:00:04.1";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "v3m-vfio-"));
});
afterEach(() => rmSync(root, { recursive: true }));

interface Row {
  readonly address: string;
  readonly driver?: string;
  readonly group?: string;
  readonly class?: string;
}

/** A function as sysfs shows it. */
function add(row: Row): void {
  const directory = join(root, "sys/bus/pci/devices", row.address);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "class"), `${row.class ?? "0x020000"}\n`);
  if (row.driver !== undefined) symlinkSync(`../../drivers/${row.driver}`, join(directory, "driver"));
  if (row.group !== undefined) {
    const group = join(root, "sys/kernel/iommu_groups", row.group);
    mkdirSync(join(group, "devices", row.address), { recursive: true });
    symlinkSync(`../../../../kernel/iommu_groups/${row.group}`, join(directory, "iommu_group"));
  }
}

function nodes(...names: string[]): void {
  mkdirSync(join(root, "dev/vfio"), { recursive: true });
  for (const name of names) writeFileSync(join(root, "dev/vfio", name), "");
}

describe("a function of the host's", () => {
  it("has an address, with or without its domain", () => {
    expect(pciAddress("3B:1f.7", "x")).toBe("0000:3b:1f.7");
    expect(pciAddress("10de:3b:00.0", "x")).toBe("10de:3b:00.0");
    for (const wrong of ["", "04.0", "00:04", "00:04.8", "00:20.0", "0:00:04.0", "../00:04.0", "00:04.0 "]) {
      expect(() => pciAddress(wrong, "vfio 0")).toThrow("vfio 0");
    }
  });

  it("can be handed on once it and all of its group are bound to vfio-pci", async () => {
    add({ address: NIC, driver: "vfio-pci", group: "7" });
    add({ address: OTHER, driver: "vfio-pci", group: "7" });
    add({ address: "0000:00:01.0", driver: "pcieport", group: "7", class: "0x060400" });
    add({ address: "0000:00:05.0", group: "7" });
    add({ address: "0000:00:06.0", driver: "nvme", group: "8" });
    nodes("vfio", "7");
    await checkVfio(NIC, root);
    expect(await pciFunction(NIC, root)).toEqual({ address: NIC, driver: "vfio-pci", group: "7" });
  });

  it("is refused where there is none", async () => {
    await expect(checkVfio(NIC, root)).rejects.toMatchObject({ code: "E_NOT_FOUND" });
    expect(await pciFunction(NIC, root)).toBeUndefined();
  });

  it("is refused where the host has no IOMMU", async () => {
    add({ address: NIC, driver: "vfio-pci" });
    await expect(checkVfio(NIC, root)).rejects.toMatchObject({
      code: "E_NO_IOMMU",
      message: expect.stringContaining("behind no IOMMU"),
      hint: expect.stringContaining("iommu=on"),
    });
  });

  it("is refused in a group that has no IOMMU after all", async () => {
    add({ address: NIC, driver: "vfio-pci", group: "0" });
    writeFileSync(join(root, "sys/kernel/iommu_groups/0/name"), "vfio-noiommu\n");
    nodes("vfio", "0");
    await expect(checkVfio(NIC, root)).rejects.toMatchObject({ code: "E_NO_IOMMU" });
  });

  it("is refused while the host drives it, with what to type", async () => {
    add({ address: NIC, driver: "e1000e", group: "7" });
    await expect(checkVfio(NIC, root)).rejects.toMatchObject({
      code: "E_BUSY",
      message: `${NIC} is the host's: e1000e drives it`,
      hint: expect.stringMatching(/driver_override.*driver\/unbind.*drivers_probe/),
    });
  });

  it("is refused while it is bound to no driver", async () => {
    add({ address: NIC, group: "7" });
    const refused = checkVfio(NIC, root);
    await expect(refused).rejects.toMatchObject({
      code: "E_BUSY",
      message: `${NIC} is not bound to vfio-pci`,
    });
    await expect(refused).rejects.toMatchObject({ hint: expect.not.stringContaining("unbind") });
  });

  it("is refused while the host has another of its group", async () => {
    add({ address: NIC, driver: "vfio-pci", group: "7" });
    add({ address: OTHER, driver: "snd_hda_intel", group: "7" });
    nodes("vfio", "7");
    await expect(checkVfio(NIC, root)).rejects.toMatchObject({
      code: "E_BUSY",
      message: expect.stringContaining(`group 7 with devices that the host uses: ${OTHER} (snd_hda_intel)`),
      hint: expect.stringContaining(OTHER),
    });
  });

  it("is refused where VFIO is not loaded", async () => {
    add({ address: NIC, driver: "vfio-pci", group: "7" });
    await expect(checkVfio(NIC, root)).rejects.toMatchObject({
      code: "E_NO_IOMMU",
      hint: "sudo modprobe -a vfio-pci vfio_iommu_type1",
    });
    nodes("vfio");
    await expect(checkVfio(NIC, root)).rejects.toMatchObject({ code: "E_NO_IOMMU", errno: "ENOENT" });
  });
});
