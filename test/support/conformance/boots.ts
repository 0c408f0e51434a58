// SPDX-License-Identifier: Apache-2.0
/** Checks of the other ways to boot: machines of their own. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { expect } from "vitest";
import { CARDS } from "../../../harness/amd/qemu.js";
import { V3mError } from "../../../src/errors.js";
import type { VmPerformance } from "../../../src/v3m/definition/types.js";
import type { Check } from "./check.js";
import { ConsoleShell } from "./shell.js";
import { disk, type Guest, PLAIN, type World } from "./world.js";

const WORDS = 4;

/** A system on a disk: its own kernel, and as root file system the initramfs that is there too. */
async function systemDisk(world: World): Promise<string> {
  const root = world.path("system");
  const { kernel, initrd } = await world.linux();
  for (const name of ["", "/boot", "/etc", "/usr"]) mkdirSync(root + name, { recursive: true });
  copyFileSync(kernel, `${root}/boot/vmlinuz-6.1.0`);
  copyFileSync(initrd ?? "", `${root}/boot/initrd.img-6.1.0`);
  const path = world.path("system.img");
  execFileSync("mke2fs", ["-q", "-t", "ext4", "-d", root, path, "64M"]);
  return path;
}

/**
 * Boot code for a CD-ROM: it says a word at the first serial port, some times, since the BIOS may still write the end of its own
 * line there meanwhile; then it stops.
 */
function bootCode(word: string): Buffer {
  const code = Buffer.from(
    // ds:si at the text behind the code; each byte out to 0x3f8 until one is zero; then hlt for ever
    "fc31c08ed8be1d7cbaf803ac84c07403eeebf8f4ebfd".padEnd(0x1d * 2, "90"),
    "hex",
  );
  return Buffer.concat([
    code,
    Buffer.from(`${`${word}\r\n`.repeat(WORDS)}\0`, "latin1"),
    Buffer.alloc(2048),
  ]).subarray(0, 2048);
}

function bootableIso(world: World, word: string): string {
  const content = world.path("boot-iso");
  mkdirSync(content);
  writeFileSync(`${content}/boot.bin`, bootCode(word));
  const path = world.path("boot.iso");
  const boot = ["-b", "boot.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4"];
  execFileSync("xorriso", ["-as", "mkisofs", "-quiet", ...boot, "-o", path, content], { stdio: "ignore" });
  return path;
}

/** A machine of one vCPU, placed as said, up to its shell; undefined where its start is refused as not to be had here. */
async function placed(world: World, name: string, performance: VmPerformance): Promise<Guest | undefined> {
  const definition = {
    ...PLAIN,
    name,
    type: world.backend.type,
    pin: [0],
    boot: await world.linux(),
    performance,
  };
  await world.define(definition);
  try {
    return await world.started(definition);
  } catch (error) {
    if (error instanceof V3mError && error.code === "E_UNSUPPORTED") return undefined;
    throw error;
  }
}

async function remove(world: World, name: string): Promise<void> {
  await world.backend.stop(name, { force: true });
  await world.undefine(name);
}

export const BOOTS: readonly Check[] = [
  {
    feature: "without-exits",
    name: "a guest halts without leaving itself, or is refused where KVM has not got that",
    async run(world) {
      const guest = await placed(world, "dedicated", { withoutExits: ["halt", "pause"] });
      if (guest !== undefined) {
        const halts = async () => Number((await world.backend.stats("dedicated")).kvm_halt_exits);
        const before = await halts();
        await guest.shell.sh("sleep 1");
        expect(await halts()).toBe(before);
      }
      await remove(world, "dedicated");
    },
  },
  {
    feature: "cache-cores",
    name: "a core has a last-level cache of its own, or is refused where KVM tells of none",
    async run(world) {
      const guest = await placed(world, "cached", { cacheCores: 1 });
      if (guest !== undefined) {
        const last = "ls -d /sys/devices/system/cpu/cpu0/cache/index* | tail -n 1";
        expect(await guest.shell.sh(`cat $(${last})/shared_cpu_list`)).toBe("0");
      }
      await remove(world, "cached");
    },
  },
  {
    feature: "boot:disk",
    name: "the system on the first disk, by its own kernel",
    async run(world) {
      const path = await systemDisk(world);
      const definition = {
        ...PLAIN,
        name: "from-disk",
        type: world.backend.type,
        boot: { from: "disk", cmdline: "v3m.extra" } as const,
        disks: [disk("system", path)],
      };
      await world.define(definition);
      const { shell } = await world.started(definition);
      expect(await shell.sh("cat /proc/cmdline")).toMatch(/root=\S+.* v3m\.extra/);
      await world.backend.stop("from-disk", { force: true });
      await world.undefine("from-disk");
    },
  },
  {
    feature: "vfio",
    name: "the guest's own driver has the host's card",
    needs: ["spare-cards"],
    async run(world) {
      // There is no balloon beside it, so the shared guest cannot have it.
      const definition = {
        ...PLAIN,
        name: "with-card",
        type: world.backend.type,
        boot: await world.linux(["virtio_net"]),
        vfio: [await world.card()],
      };
      await world.define(definition);
      const { shell } = await world.started(definition);
      expect(await shell.sh("cat /sys/class/net/*/address")).toContain(CARDS.virtio.mac);
      await world.backend.stop("with-card", { force: true });
      await world.undefine("with-card");
    },
  },
  {
    feature: "boot:cdrom",
    name: "what the CD-ROM boots",
    async run(world) {
      const word = "booted from a CD-ROM";
      await world.define({
        ...PLAIN,
        name: "from-cdrom",
        type: world.backend.type,
        boot: { from: "cdrom" },
        cdrom: bootableIso(world, word),
      });
      await world.backend.start("from-cdrom");
      const console = new ConsoleShell(await world.backend.console("from-cdrom"));
      await console.waitFor(new RegExp(word));
      await world.backend.stop("from-cdrom", { force: true });
      await world.undefine("from-cdrom");
    },
  },
];
