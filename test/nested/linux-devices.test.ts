// SPDX-License-Identifier: Apache-2.0
/** Every device with Debian's own drivers: no warning, features agreed on, unbound and bound again, reset. */
import { execFileSync } from "node:child_process";
import {
  accessSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { KernelFlavour } from "../../harness/kernels.js";
import { type Link, openLink } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { FULL } from "../support/places.js";

const MIB = 1 << 20;
const MODULES = [
  ...["virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_console"],
  ...["virtio_pmem", "nd_pmem", "vmw_vsock_virtio_transport"],
];
/** Names of virtio's drivers by their device ids (virtio 1.2, 5). */
const DRIVERS: Readonly<Record<number, string>> = {
  1: "virtio_net",
  2: "virtio_blk",
  3: "virtio_console",
  4: "virtio_rng",
  5: "virtio_balloon",
  19: "vmw_vsock_virtio_transport",
  27: "virtio_pmem",
};
/** Feature bits that every device has (virtio 1.2, 6): VERSION_1; and those of each that a guest relies on. */
const VERSION_1 = 32;

interface Found {
  /** `virtio0`. */
  readonly name: string;
  readonly id: number;
  readonly driver: string;
  readonly features: string;
  /** `0000:00:01.0`. */
  readonly pci: string;
}

async function virtioDevices(guest: LinuxGuest): Promise<Found[]> {
  const text = await guest.sh(
    'cd /sys/bus/virtio/devices; for d in *; do echo "$d $(cat $d/device) $(basename $(readlink $d/driver)) $(cat $d/features) $(basename $(readlink -f $d/..))"; done; cd /',
  );
  return text.split("\n").map((line) => {
    const [name = "", id = "", driver = "", features = "", pci = ""] = line.split(" ");
    return { name, id: Number(id), driver, features, pci };
  });
}

/**
 * Linux asks the DIMMs of a region whether they can be flushed, and virtio-pmem's have none: it says so of every such
 * device, and flushes by virtio nevertheless.
 */
const PMEM = /nd_pmem namespace\d+\.\d+: unable to guarantee persistence of writes/;

/** Warnings and worse about devices; the machine itself has its own list. */
async function warnings(guest: LinuxGuest): Promise<string[]> {
  const { output } = await guest.run("dmesg -r | grep -E '^<[0-4]>'");
  const about =
    /pci|virtio|\bvd[a-z]|\beth|\ben[ps]\d|net |pmem|nd_|balloon|vsock|hvc|rng|msi|irq|dma|i\/o error/i;
  return [
    ...(await suspiciousMessages(guest)),
    ...output.split("\n").filter((line) => about.test(line) && !PMEM.test(line)),
  ];
}

/** Whether this computer has vhost-vsock; the emulated ones load it when asked. */
function hasVsock(): boolean {
  try {
    execFileSync("modprobe", ["vhost_vsock"], { stdio: "ignore" });
  } catch {
    // Built in, or none, or not ours to load.
  }
  try {
    accessSync("/dev/vhost-vsock", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function checks(flavour: KernelFlavour): void {
  let work: string;
  let guest: LinuxGuest;
  let hvcOut: number;
  let link: Link;
  const path = (name: string) => join(work, name);
  let vsock = false;

  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), "v3m-linux-devices-"));
    vsock = hasVsock();
    writeFileSync(path("disk"), Buffer.alloc(8 * MIB, "disk"));
    writeFileSync(path("base"), Buffer.alloc(8 * MIB, "base"));
    writeFileSync(path("pmem"), Buffer.alloc(4 * MIB, "pmem"));
    hvcOut = openSync(path("hvc"), "w+");
    link = openLink();
    guest = await LinuxGuest.boot({
      flavour,
      memory: (flavour === "cloud" ? 192 : 320) * MIB,
      initramfs: { modules: MODULES },
      disks: [
        { path: path("disk"), serial: "SERIAL 1" },
        { path: path("base"), readOnly: true },
        { path: path("base"), overlay: "temporary" },
      ],
      nets: [{ kind: "link", fd: link.ends[0], mac: "52:54:00:12:34:56", mtu: 1400 }],
      rng: true,
      hvc: { outFd: hvcOut, columns: 132, rows: 43 },
      balloon: true,
      pmem: [{ path: path("pmem") }],
      generationId: "random",
      ...(vsock ? { vsock: 77 } : {}),
    });
  });
  afterAll(async () => {
    await guest?.dispose();
    link?.close();
    closeSync(hvcOut);
    rmSync(work, { recursive: true });
  });

  const checkDevices = async () => {
    const found = await virtioDevices(guest);
    expect(found.map(({ id }) => id)).toEqual([2, 2, 2, 1, 4, 3, 5, ...(vsock ? [19] : []), 27]);
    for (const { name, id, driver, features } of found) {
      expect([name, driver], name).toEqual([name, DRIVERS[id]]);
      expect(features[VERSION_1], `${name}: VERSION_1`).toBe("1");
    }
    return found;
  };
  const checkDisks = async () => {
    expect(await guest.sh("cat /sys/block/vda/serial")).toBe("SERIAL 1");
    expect(await guest.sh("cat /sys/block/vd?/ro")).toBe("0\n1\n0");
    expect(await guest.sh("cat /sys/block/vd?/size")).toBe("16384\n16384\n16384");
    const start = (disk: string) =>
      guest.sh(`dd if=/dev/${disk} bs=4096 skip=3 count=1 2>/dev/null | head -c 8`);
    expect(await start("vdb")).toBe("basebase");
    return start;
  };

  it("are all found and driven, and no driver complains", async () => {
    await checkDevices();
    expect(await warnings(guest)).toEqual([]);
  });

  it("interrupt by MSI-X", async () => {
    expect(await guest.sh("grep -c MSI /proc/interrupts")).not.toBe("0");
    expect(
      await guest.sh("lspci -k >/dev/null 2>&1; cat /proc/interrupts | grep -E 'virtio0-req|virtio0'"),
    ).toMatch(/PCI-MSI/);
  });

  it("disks: read, write, flush, read-only, overlay", async () => {
    const start = await checkDisks();
    expect(await start("vda")).toBe("diskdisk");
    await guest.sh("printf 'from the guest' | dd of=/dev/vda bs=512 seek=4 conv=notrunc,fsync 2>/dev/null");
    expect(readFileSync(path("disk")).toString("latin1", 2048, 2062)).toBe("from the guest");
    expect((await guest.run("echo x >/dev/vdb")).code).not.toBe(0);
    await guest.sh("printf 'overlaid' | dd of=/dev/vdc bs=512 seek=4 conv=notrunc,fsync 2>/dev/null");
    expect(await guest.sh("dd if=/dev/vdc bs=512 skip=4 count=1 2>/dev/null | head -c 8")).toBe("overlaid");
    expect(readFileSync(path("base")).equals(Buffer.alloc(8 * MIB, "base"))).toBe(true);
  });

  it("a disk: discard", async () => {
    expect(await guest.sh("cat /sys/block/vda/queue/discard_max_bytes")).not.toBe("0");
    await guest.sh("blkdiscard -o 4194304 -l 1048576 /dev/vda");
    expect(await guest.sh("dd if=/dev/vda bs=1M skip=4 count=1 2>/dev/null | tr -d '\\0' | wc -c")).toBe("0");
  });

  it("an interface: address and MTU as given", async () => {
    expect(await guest.sh("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu")).toBe(
      "52:54:00:12:34:56\n1400",
    );
    await guest.sh("ip link set eth0 up");
    expect(await guest.sh("cat /sys/class/net/eth0/carrier")).toBe("1");
  });

  it("entropy", async () => {
    expect(await guest.sh("cat /sys/class/misc/hw_random/rng_current")).toMatch(/^virtio_rng/);
    expect(await guest.sh("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum")).not.toBe(
      await guest.sh("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum"),
    );
  });

  it("a second console, with its size", async () => {
    await guest.sh("echo hello by hvc >/dev/hvc0");
    expect(readFileSync(path("hvc"), "latin1")).toMatch(/hello by hvc/);
    // Linux gives it to the terminal by a work item, some time after the terminal was opened.
    expect(await guest.sh("exec 5<>/dev/hvc0; sleep 1; stty size <&5; exec 5>&-")).toBe("43 132");
  });

  it("a balloon: takes memory and gives it back", async () => {
    const free = async () => Number(/MemFree:\s+(\d+)/.exec(await guest.sh("cat /proc/meminfo"))?.[1]) / 1024;
    const reached = async (bytes: number) => {
      while (guest.machine.balloon.get().actual !== BigInt(bytes)) {
        await guest.sh("sleep 0.1");
      }
    };
    const before = await free();
    guest.machine.balloon.set(32 * MIB);
    await reached(32 * MIB);
    expect(before - (await free())).toBeGreaterThan(24);
    guest.machine.balloon.set(0);
    await reached(0);
    expect(before - (await free())).toBeLessThan(16);
    expect(guest.machine.balloon.get().target).toBe(0n);
  });

  it("persistent memory: what is flushed is in the file", async () => {
    expect(await guest.sh("dd if=/dev/pmem0 bs=4096 count=1 2>/dev/null | head -c 8")).toBe("pmempmem");
    await guest.sh("printf 'persistent' | dd of=/dev/pmem0 bs=512 seek=2 conv=notrunc,fsync 2>/dev/null");
    expect(readFileSync(path("pmem")).toString("latin1", 1024, 1034)).toBe("persistent");
  });

  it("a VM generation ID is in the ACPI name space, and may change", async () => {
    expect(
      await guest.sh(
        "cat /sys/bus/acpi/devices/*/hid 2>/dev/null | grep -iE 'VMGENCTR|V3MGEN|QEMUVGID' || cat /sys/bus/acpi/devices/*/path | grep -i -E 'VGEN|VMG|GENID' || true",
      ),
    ).not.toBe("");
    guest.machine.setGenerationId("random");
    expect(await warnings(guest)).toEqual([]);
  });

  describe("after their drivers were taken away", () => {
    it("virtio's drivers: unbound and bound again, twice", async () => {
      for (let round = 0; round < 2; round++) {
        for (const { name, driver } of await virtioDevices(guest)) {
          const at = `/sys/bus/virtio/drivers/${driver}`;
          await guest.sh(`echo ${name} >${at}/unbind`);
          await guest.sh(`echo ${name} >${at}/bind`);
        }
        await checkDevices();
      }
      expect(await (await checkDisks())("vda")).toBe("diskdisk");
      expect(await warnings(guest)).toEqual([]);
    });

    it("virtio-pci: unbound and bound again", async () => {
      const at = "/sys/bus/pci/drivers/virtio-pci";
      for (const { pci } of await virtioDevices(guest)) {
        await guest.sh(`echo ${pci} >${at}/unbind`);
        await guest.sh(`echo ${pci} >${at}/bind`);
      }
      expect(await guest.sh("ls /sys/bus/virtio/devices | wc -l")).toBe(vsock ? "9" : "8");
      const start = (disk: string) =>
        guest.sh(`dd if=/dev/${disk} bs=4096 skip=3 count=1 2>/dev/null | head -c 8`);
      const names = (await guest.sh("ls /sys/block | grep vd")).split("\n");
      expect(names).toHaveLength(3);
      const contents: string[] = [];
      for (const name of names) contents.push(await start(name));
      expect(contents.sort()).toEqual(["basebase", "basebase", "diskdisk"]);
      expect(await warnings(guest)).toEqual([]);
    });

    it("the whole machine: reset, and all of it works again", async () => {
      guest.machine.reset();
      await guest.shell();
      await checkDevices();
      const start = await checkDisks();
      expect(await start("vda")).toBe("diskdisk");
      expect(await guest.sh("dd if=/dev/vdc bs=512 skip=4 count=1 2>/dev/null | head -c 8")).toBe("overlaid");
      expect(await warnings(guest)).toEqual([]);
    });
  });
}

for (const flavour of FULL ? (["cloud", "generic"] as const) : (["cloud"] as const)) {
  suite(`devices of Debian's ${flavour} kernel`, { needs: ["linux-guest"] }, () => checks(flavour));
}

suite("a link between two Linux guests", { needs: ["linux-guest"] }, () => {
  it("carries their packets", async () => {
    const link = openLink();
    const guests = await Promise.all(
      link.ends.map((fd) =>
        LinuxGuest.boot({ initramfs: { modules: ["virtio_net"] }, nets: [{ kind: "link", fd }] }),
      ),
    );
    link.close();
    try {
      await Promise.all(
        guests.map((guest, i) => guest.sh(`ip addr add 10.0.0.${i + 1}/24 dev eth0; ip link set eth0 up`)),
      );
      const [first, second] = guests as [LinuxGuest, LinuxGuest];
      expect(await first.sh("ping -c 3 -W 20 10.0.0.2")).toMatch(/3 packets received/);
      // An input that never ends: at its end busybox's nc would hang up.
      await second.sh("mkfifo /tmp/open; nc -l -p 99 <>/tmp/open >/tmp/got & sleep 1");
      await first.sh("seq 1 100000 >/tmp/sent; nc 10.0.0.2 99 </tmp/sent");
      expect(await second.sh("wait; md5sum </tmp/got")).toBe(await first.sh("md5sum </tmp/sent"));
      const address = "cat /sys/class/net/eth0/address";
      expect(await first.sh(address)).not.toBe(await second.sh(address));
    } finally {
      await Promise.all(guests.map((guest) => guest.dispose()));
    }
  });
});
