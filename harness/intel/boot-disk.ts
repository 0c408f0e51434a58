/**
 * The disk the machine boots from: GRUB, Debian's cloud kernel (its payload is LZ4, which is cheap to unpack even
 * under emulation; the generic kernel's is XZ, which costs minutes), and an initramfs with the agent and a few
 * modules. No file system: GRUB is told by block numbers where kernel and initramfs lie.
 */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheDir, cached } from "../common/cache.js";
import { cpio, type Entry } from "../common/cpio.js";
import { TestbedError } from "../common/errors.js";
import { requireTool, runTool } from "../common/tools.js";
import { type GuestKernel, resolveModules } from "../kernels.js";
import { compileGuest } from "./compile.js";
import { prune, touch } from "./prune.js";

/** Part of the names of images: to be raised when images are made in another way. */
const FORMAT = 2;
const SECTOR = 512;
/** GRUB itself lies between the boot sector and here. */
const FIRST_SECTOR = 2048;
/** What Bochs takes for a cylinder: it wants whole ones. */
const CYLINDER = 16 * 63 * SECTOR;
const GRUB_DIRECTORY = "/usr/lib/grub/i386-pc";

/** Modules that are loaded before the machine's disks are known, and those that find the disks. */
const EARLY_MODULES = ["scsi_mod", "sd_mod", "libata", "squashfs", "overlay", "kvm_intel"];
const DISK_MODULES = ["ata_piix"];

/**
 * quiet: each character on the serial port costs thousands of instructions. tsc=reliable, no_timer_check: virtual
 * time passes no plausibility check. mitigations=off: emulated, they protect nothing. nokaslr: nothing to relocate.
 * Without panic= the machine stops at a panic, and the host sees it on the console.
 */
const KERNEL_PARAMETERS = [
  "console=ttyS0",
  "quiet",
  "mitigations=off",
  "nokaslr",
  "tsc=reliable",
  "no_timer_check",
  "random.trust_cpu=on",
  "audit=0",
  "apparmor=0",
  "cryptomgr.notests",
].join(" ");

/** Path of the boot disk for a kernel, built first if necessary. */
export async function bootDisk(kernel: GuestKernel): Promise<string> {
  const hash = createHash("sha256");
  const agent = await compileGuest("agent");
  hash.update(JSON.stringify([kernel.version, KERNEL_PARAMETERS, EARLY_MODULES, DISK_MODULES, FORMAT]));
  hash.update(await readFile(agent));
  await prune("boot-", 2);
  const name = `boot-${hash.digest("hex").slice(0, 16)}.img`;
  const path = await cached(cacheDir("intel", name), async (temporary) => {
    const image = await assemble(await readFile(kernel.bzImage), await initramfs(kernel, agent));
    await writeFile(temporary, image);
  });
  await touch(path);
  return path;
}

async function initramfs(kernel: GuestKernel, agent: string): Promise<Buffer> {
  const early = await resolveModules(kernel, EARLY_MODULES);
  const disks = (await resolveModules(kernel, DISK_MODULES)).filter((file) => !early.includes(file));
  const base = (file: string): string => file.slice(file.lastIndexOf("/") + 1);
  const list = (files: string[]): Buffer => Buffer.from(files.map((file) => `${base(file)}\n`).join(""));
  const modules = await Promise.all(
    [...early, ...disks].map(
      async (file): Promise<Entry> => ({
        type: "file",
        path: `modules/${base(file)}`,
        data: await readFile(join(kernel.modulesDir, file)),
      }),
    ),
  );
  return cpio([
    { type: "file", path: "init", data: await readFile(agent), mode: 0o755 },
    ...["proc", "sys", "dev"].map((path): Entry => ({ type: "dir", path })),
    { type: "char", path: "dev/console", major: 5, minor: 1 },
    ...modules,
    { type: "file", path: "modules/early", data: list(early) },
    { type: "file", path: "modules/disks", data: list(disks) },
  ]);
}

async function assemble(kernel: Buffer, initrd: Buffer): Promise<Buffer> {
  const kernelSectors = Math.ceil(kernel.length / SECTOR);
  const initrdSectors = Math.ceil(initrd.length / SECTOR);
  const initrdStart = FIRST_SECTOR + kernelSectors;
  const core = await grubCore(
    [
      `linux (hd0)${FIRST_SECTOR}+${kernelSectors} ${KERNEL_PARAMETERS}`,
      `initrd (hd0)${initrdStart}+${initrdSectors}`,
      "boot",
      "",
    ].join("\n"),
  );
  const boot = await grubFile("boot.img");
  if (boot.length !== SECTOR || SECTOR + core.length > FIRST_SECTOR * SECTOR) {
    throw new TestbedError("E_BOOT", "GRUB's files are not as expected");
  }
  const end = (initrdStart + initrdSectors) * SECTOR;
  const image = Buffer.alloc(Math.ceil(end / CYLINDER) * CYLINDER);
  boot.copy(image);
  // boot.img and a core image made by grub-mkimage expect each other in the first sectors: nothing to patch.
  core.copy(image, SECTOR);
  kernel.copy(image, FIRST_SECTOR * SECTOR);
  initrd.copy(image, initrdStart * SECTOR);
  // One entry in the partition table that is marked as active, since some BIOSes boot nothing else.
  image[446] = 0x80;
  image.writeUInt16LE(0xaa55, 510);
  return image;
}

async function grubCore(script: string): Promise<Buffer> {
  const mkimage = await requireTool("grub-mkimage", "grub-common");
  await grubFile("boot.img");
  const work = await mkdtemp(join(tmpdir(), "v3m-grub-"));
  try {
    const config = join(work, "grub.cfg");
    await writeFile(config, script);
    const options = ["-O", "i386-pc", "-d", GRUB_DIRECTORY, "-p", "/", "-c", config];
    const result = await runTool(mkimage, [...options, "-o", join(work, "core.img"), "biosdisk", "linux"]);
    if (result.code !== 0) throw new TestbedError("E_BOOT", `grub-mkimage failed: ${result.stderr}`);
    return await readFile(join(work, "core.img"));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function grubFile(name: string): Promise<Buffer> {
  try {
    return await readFile(join(GRUB_DIRECTORY, name));
  } catch (cause) {
    throw new TestbedError("E_TOOL_MISSING", `GRUB for BIOS machines is not installed (${GRUB_DIRECTORY})`, {
      hint: "apt-get install grub-pc-bin",
      cause,
    });
  }
}
