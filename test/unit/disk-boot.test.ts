// SPDX-License-Identifier: Apache-2.0
/** The kernel of a disk image: partition tables, boot directories of several distributions, and damaged images. */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { extlinuxChoice, loaderEntry } from "../../src/disk/boot-files.js";
import { partitionsOf } from "../../src/disk/partitions.js";
import { type DiskBoot, diskBoot } from "../../src/vmm/index.js";

const MIB = 1 << 20;
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

let work: string;
let count = 0;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "v3m-disk-boot-"));
});
afterAll(() => rmSync(work, { recursive: true }));

const fresh = (suffix = "img") => join(work, `${count++}.${suffix}`);

/** Files of a file system: content, or `-> target`. */
type Tree = Readonly<Record<string, string>>;

function tree(files: Tree): string {
  const root = fresh("d");
  for (const [path, content] of Object.entries(files)) {
    const at = join(root, path);
    mkdirSync(dirname(at), { recursive: true });
    if (content.startsWith("-> ")) symlinkSync(content.slice(3), at);
    else writeFileSync(at, content);
  }
  mkdirSync(root, { recursive: true });
  return root;
}

function empty(bytes: number): string {
  const image = fresh();
  writeFileSync(image, "");
  truncateSync(image, bytes);
  return image;
}

function makeExt(image: string, files: Tree, offset = 0, bytes = 8 * MIB, type = "ext4"): void {
  const options = [
    "-q",
    "-F",
    "-t",
    type,
    "-d",
    tree(files),
    "-E",
    `offset=${offset}`,
    image,
    `${bytes / 1024}k`,
  ];
  execFileSync("mke2fs", options, { env, stdio: ["ignore", "ignore", "pipe"] });
}

/** A file system without a partition table. */
function bare(files: Tree, type = "ext4"): string {
  const image = empty(8 * MIB);
  makeExt(image, files, 0, 8 * MIB, type);
  return image;
}

function partitioned(script: string, bytes = 32 * MIB): string {
  const image = empty(bytes);
  execFileSync("sfdisk", ["-q", image], { env, input: script, stdio: ["pipe", "ignore", "pipe"] });
  return image;
}

const boot = (image: string) => diskBoot(image, { cacheDir: join(work, "cache") });
const text = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path, "latin1"));

function patched(image: string, at: number, bytes: Uint8Array): string {
  const copy = fresh();
  cpSync(image, copy);
  const data = readFileSync(copy);
  data.set(bytes, at);
  writeFileSync(copy, data);
  return copy;
}

const DEBIAN: Tree = {
  "etc/hostname": "debian",
  "usr/bin/true": "",
  "boot/vmlinuz-6.1.0-9-amd64": "older kernel",
  "boot/initrd.img-6.1.0-9-amd64": "older initrd",
  "boot/vmlinuz-6.1.0-10-amd64": "kernel",
  "boot/initrd.img-6.1.0-10-amd64": "initrd",
};

describe("which kernel a disk boots", () => {
  const cases: [string, Tree, string | undefined, string | undefined][] = [
    ["the newest by version", DEBIAN, "kernel", "initrd"],
    [
      "what /vmlinuz points at",
      {
        ...DEBIAN,
        vmlinuz: "-> boot/vmlinuz-6.1.0-9-amd64",
        "initrd.img": "-> boot/initrd.img-6.1.0-9-amd64",
      },
      "older kernel",
      "older initrd",
    ],
    [
      "what /boot/vmlinuz points at",
      {
        ...DEBIAN,
        "boot/vmlinuz": "-> vmlinuz-6.1.0-9-amd64",
        "boot/initrd.img": "-> initrd.img-6.1.0-9-amd64",
      },
      "older kernel",
      "older initrd",
    ],
    ["the newest where the link leads nowhere", { ...DEBIAN, vmlinuz: "-> boot/gone" }, "kernel", "initrd"],
    ["the newest where the link goes in circles", { ...DEBIAN, vmlinuz: "-> vmlinuz" }, "kernel", "initrd"],
    [
      "the newest Boot Loader Specification entry",
      {
        "boot/loader/entries/a-6.5.6-300.conf":
          "title Old\nlinux /vmlinuz-6.5.6\ninitrd /initramfs-6.5.6.img\n",
        "boot/loader/entries/a-6.5.12-300.conf":
          "linux /vmlinuz-6.5.12\ninitrd /initramfs-6.5.12.img $tuned\n",
        "boot/loader/entries/a-0-rescue.conf": "linux /vmlinuz-0-rescue\n",
        "boot/vmlinuz-6.5.6": "older kernel",
        "boot/vmlinuz-6.5.12": "kernel",
        "boot/initramfs-6.5.12.img": "initrd",
        "boot/vmlinuz-0-rescue": "rescue",
      },
      "kernel",
      "initrd",
    ],
    [
      "the default of extlinux.conf",
      {
        "boot/extlinux.conf":
          "DEFAULT b\nLABEL a\n  LINUX vmlinuz-lts\nLABEL b\n  LINUX vmlinuz-virt\n  INITRD initramfs-virt\n",
        "boot/vmlinuz-lts": "other",
        "boot/vmlinuz-virt": "kernel",
        "boot/initramfs-virt": "initrd",
      },
      "kernel",
      "initrd",
    ],
    ["one without an initrd", { "boot/vmlinuz-6.1": "kernel" }, "kernel", undefined],
    ["one without a version", { "boot/bzImage": "kernel", "boot/initrd.img": "initrd" }, "kernel", "initrd"],
    [
      "one on a file system for /boot alone",
      { "vmlinuz-6.1": "kernel", "initramfs-6.1.img": "initrd" },
      "kernel",
      "initrd",
    ],
    [
      "none whose name is strange",
      { "boot/vmlinuz-6.1": "kernel", "boot/vmlinuz-9 9\n": "x", 'boot/vmlinuz-9"': "x" },
      "kernel",
      undefined,
    ],
    [
      "none that was kept aside",
      { "boot/vmlinuz-6.1": "kernel", "boot/vmlinuz-6.2.old": "x", "boot/vmlinuz-7-rescue": "x" },
      "kernel",
      undefined,
    ],
  ];
  it.each(cases)("%s", async (_what, files, kernel, initrd) => {
    const found = await boot(bare(files));
    expect([text(found.kernel), text(found.initrd)]).toEqual([kernel, initrd]);
    expect(found.cmdline).toBe("root=/dev/vda rw console=ttyS0");
  });

  it.each(["ext2", "ext3", "ext4"])("on %s", async (type) => {
    const found = await boot(bare(DEBIAN, type));
    expect(found).toMatchObject({
      kernelName: "boot/vmlinuz-6.1.0-10-amd64",
      initrdName: "boot/initrd.img-6.1.0-10-amd64",
    });
  });

  it("is kept once, under its content", async () => {
    const [first, second] = [await boot(bare(DEBIAN)), await boot(bare(DEBIAN))];
    expect(second.kernel).toBe(first.kernel);
    expect(second.initrd).toBe(first.initrd);
    const all = await Promise.all(
      Array.from({ length: 4 }, () => boot(bare({ "boot/vmlinuz-2": "at once" }))),
    );
    expect(new Set(all.map(({ kernel }) => kernel)).size).toBe(1);
  });

  it("with a large file, byte for byte", async () => {
    const root = tree(DEBIAN);
    const kernel = Buffer.from(Array.from({ length: 3_000_001 }, (_, i) => (i * 7919) & 0xff));
    writeFileSync(join(root, "boot/vmlinuz-7"), kernel);
    const image = empty(16 * MIB);
    execFileSync("mke2fs", ["-q", "-F", "-d", root, image], { env, stdio: ["ignore", "ignore", "pipe"] });
    expect(readFileSync((await boot(image)).kernel).equals(kernel)).toBe(true);
  });

  it("in an image whose name has signs in it", async () => {
    const image = join(work, "a?offset=9 b'c\"d.img");
    cpSync(bare(DEBIAN), image);
    expect(text((await boot(image)).kernel)).toBe("kernel");
  });
});

describe("partition tables", () => {
  const UUID = "11111111-2222-3333-4444-555555555555";

  it("GPT: root by PARTUUID", async () => {
    const image = partitioned(`label: gpt\nstart=2048, size=16384, type=L, uuid=${UUID}\n`);
    makeExt(image, DEBIAN, MIB);
    const found = await boot(image);
    expect(text(found.kernel)).toBe("kernel");
    expect(found.cmdline).toBe(`root=PARTUUID=${UUID} rw console=ttyS0`);
  });

  it("GPT with /boot on a partition of its own", async () => {
    const image = partitioned(
      `label: gpt\nstart=2048, size=2048, type=U\nstart=4096, size=16384\nstart=20480, size=16384, uuid=${UUID}\n`,
    );
    makeExt(image, { "vmlinuz-6.1": "kernel" }, 2 * MIB);
    makeExt(image, { "etc/fstab": "", "usr/bin/true": "" }, 10 * MIB);
    const found = await boot(image);
    expect(text(found.kernel)).toBe("kernel");
    expect(found.cmdline).toContain(`root=PARTUUID=${UUID} `);
  });

  it("MBR: primary and logical partitions", async () => {
    const image = partitioned(
      "label: dos\nlabel-id: 0xdeadbeef\nstart=2048, size=2048, type=82\nstart=4096, size=61440, type=5\nstart=6144, size=2048, type=83\nstart=10240, size=16384, type=83\n",
    );
    makeExt(image, DEBIAN, 5 * MIB);
    expect((await boot(image)).cmdline).toContain("root=PARTUUID=deadbeef-06 ");
    const file = await open(image);
    try {
      const found = await partitionsOf(file, 32 * MIB);
      expect(found.map(({ number, offset }) => [number, offset / MIB])).toEqual([
        [1, 1],
        [5, 3],
        [6, 5],
      ]);
    } finally {
      await file.close();
    }
  });
});

describe("images that cannot be booted from", () => {
  const refused = async (image: string, code: string, message: RegExp) => {
    const error = await boot(image).then(
      (found: DiskBoot) => new Error(`accepted: ${JSON.stringify(found)}`),
      (why: Error) => why,
    );
    expect(error).toMatchObject({ code, hint: expect.any(String) });
    expect(error.message).toMatch(message);
  };
  const gpt = () => {
    const image = partitioned("label: gpt\nstart=2048, size=16384\n");
    makeExt(image, DEBIAN, MIB);
    return image;
  };
  const u64 = (value: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  };
  const u32 = (value: number) => u64(BigInt(value)).subarray(0, 4);

  it("none, a directory, an empty file", async () => {
    await refused(join(work, "nowhere"), "E_IO", /ENOENT/);
    await refused(work, "E_BAD_IMAGE", /neither a file nor a block device/);
    await refused(empty(0), "E_BAD_IMAGE", /0 bytes/);
    await refused(empty(MIB), "E_BAD_IMAGE", /no file system/);
  });

  it("other formats and file systems, by their names", async () => {
    const blank = empty(MIB);
    await refused(patched(blank, 0, Buffer.from("QFI\xfb", "latin1")), "E_BAD_IMAGE", /qcow2/);
    await refused(patched(blank, 0, Buffer.from("XFSB")), "E_BAD_IMAGE", /XFS/);
    await refused(patched(blank, 0x10040, Buffer.from("_BHRfS_M")), "E_BAD_IMAGE", /Btrfs/);
    await refused(patched(blank, 0, Buffer.from("LUKS\xba\xbe", "latin1")), "E_BAD_IMAGE", /LUKS/);
  });

  it("a file system without a kernel", async () => {
    await refused(bare({ "etc/hostname": "x" }), "E_BAD_IMAGE", /no kernel in the boot directory/);
    await refused(bare({ "boot/vmlinuz-1": "" }), "E_BAD_IMAGE", /has 0 bytes/);
  });

  it("GPT entries that lie outside, run backwards, or are absurd", async () => {
    const image = gpt();
    const entry = 1024; // LBA 2
    await refused(patched(image, entry + 40, u64(1n << 40n)), "E_TRUNCATED", /partition 1 lies outside/);
    await refused(patched(image, entry + 40, u64((1n << 64n) - 1n)), "E_TRUNCATED", /outside/);
    await refused(patched(image, entry + 40, u64(2000n)), "E_BAD_IMAGE", /no extent/);
    await refused(patched(image, entry + 32, u64(0n)), "E_BAD_IMAGE", /no extent/);
    const header = 512;
    await refused(patched(image, header + 80, u32(0xffff_ffff)), "E_BAD_IMAGE", /entries of/);
    await refused(patched(image, header + 84, u32(0)), "E_BAD_IMAGE", /entries of 0 bytes/);
    await refused(patched(image, header + 84, u32(129)), "E_BAD_IMAGE", /entries of 129 bytes/);
    await refused(patched(image, header + 72, u64(1n << 62n)), "E_BAD_IMAGE", /entries would be/);
    await refused(patched(image, header, Buffer.from("EFI XXXX")), "E_BAD_IMAGE", /GPT, and there is none/);
  });

  it("MBR chains that go in circles, or out of the image", async () => {
    const script =
      "label: dos\nstart=2048, size=40960, type=5\nstart=4096, size=2048\nstart=8192, size=2048\n";
    const image = partitioned(script);
    const ebr = 2048 * 512;
    const link = ebr + 446 + 16;
    expect(readFileSync(image)[link + 4]).toBe(5);
    const boots = (at: number, bytes: Uint8Array) => patched(image, at, bytes);
    await refused(boots(link + 8, u32(0)), "E_BAD_IMAGE", /no file system/); // back to itself: ends there
    await refused(boots(link + 8, u32(0x7fff_ffff)), "E_BAD_IMAGE", /chain of logical/);
    await refused(boots(ebr + 510, Buffer.of(0)), "E_BAD_IMAGE", /link of the chain/);
    await refused(boots(ebr + 446 + 8, u32(0x7fff_ffff)), "E_TRUNCATED", /partition 5 lies outside/);
  });

  it("damaged file systems end in an error, whatever is damaged", async () => {
    const image = bare(DEBIAN);
    // A superblock that is none any more but for its magic; group descriptors; the first inodes.
    await refused(patched(image, 1024, Buffer.alloc(56, 0xff)), "E_BAD_IMAGE", /./);
    await refused(patched(image, 1024 + 58, Buffer.alloc(900, 0xff)), "E_BAD_IMAGE", /./);
    await refused(patched(image, 2048, Buffer.alloc(2048, 0xff)), "E_BAD_IMAGE", /./);
    const half = fresh();
    writeFileSync(half, readFileSync(image).subarray(0, 64 << 10));
    await refused(half, "E_BAD_IMAGE", /./);
  });

  it("no debugfs", async () => {
    const image = bare(DEBIAN);
    const path = process.env.PATH;
    // The directories of sbin are looked in nevertheless: their debugfs is what most hosts have.
    process.env.PATH = "/nonexistent";
    try {
      await boot(image).then(
        ({ kernel }) => expect(text(kernel)).toBe("kernel"),
        (error) => expect(error).toMatchObject({ code: "E_UNSUPPORTED", hint: /e2fsprogs/ }),
      );
    } finally {
      process.env.PATH = path;
    }
  });
});

describe("boot loader configuration", () => {
  it("extlinux: the first entry without a default, initrd from the append line, paths relative or absolute", () => {
    expect(extlinuxChoice("label x\n kernel /boot/k\n append root=/dev/sda initrd=/boot/i quiet\n")).toEqual({
      kernel: "boot/k",
      initrd: "boot/i",
    });
    expect(extlinuxChoice("DEFAULT gone\nLABEL a\nKERNEL k\n")).toEqual({ kernel: "k", initrd: undefined });
    expect(extlinuxChoice("")).toBeUndefined();
    expect(extlinuxChoice("LABEL a\nCOM32 menu.c32\n")).toBeUndefined();
    expect(extlinuxChoice("KERNEL before any label\n")).toBeUndefined();
  });

  it("Boot Loader Specification: no kernel, no entry", () => {
    expect(loaderEntry("title x\nlinux /a/b\ninitrd /a/c\n")).toEqual({ kernel: "a/b", initrd: "a/c" });
    expect(loaderEntry("title x\nefi /a.efi\n")).toBeUndefined();
  });
});
