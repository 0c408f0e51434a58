// SPDX-License-Identifier: Apache-2.0
/**
 * A CD-ROM that installs a small Debian on the first disk without asking anything: ISOLINUX, a kernel, an initramfs
 * with the installer, and packages. The installer partitions the disk, makes a file system, unpacks the packages
 * and has the new system's own dpkg install them. What it leaves says what it is, and powers off.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cached } from "../../harness/common/cache.js";
import { guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";
import { isoPath, repositoryIndex, repositoryPath } from "./package-paths.js";

/** What is installed, with all that it depends on. */
const ROOTS = [
  "base-files",
  "base-passwd",
  "bash",
  "busybox",
  "coreutils",
  "dash",
  "diffutils",
  "dpkg",
  "grep",
  "libc-bin",
  "mount",
  "sed",
];
const MODULES = ["virtio_blk", "ahci", "sr_mod", "isofs", "crc32c_generic", "ext4"];

/** The installed system's first process. */
const INIT = `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
echo "V3M-INSTALLED bash $(dpkg-query -W -f '\${Version} \${Status}' bash)"
echo "V3M-ROOT $(sed -n 's,^\\(/dev/[^ ]*\\) / .*,\\1,p' /proc/mounts)"
echo "V3M-PACKAGES $(dpkg-query -W -f '\${Status}\\n' | grep -c '^install ok installed$')"
echo "V3M-CDROM $(ls /dev/sr0 /dev/vdb 2>/dev/null | wc -w)"
busybox poweroff -f
`;

/** Process 1 of the initramfs: on the CD-ROM it installs, on the disk it goes on to the system there. */
const INSTALLER = `export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /cdrom /target
while read -r module; do insmod "/modules/$module"; done </modules/order
await() { for i in $(seq 200); do [ -b "$1" ] && return; sleep 0.1; done; fail "no $1"; }
fail() { echo "V3M-INSTALL-FAILED: $*"; sync; poweroff -f; }
read -r cmdline </proc/cmdline
await /dev/vda
case "$cmdline" in
  *v3m.install*) ;;
  *) await /dev/vda1; mount -t ext4 /dev/vda1 /target && mount -o move /dev /target/dev && exec switch_root /target /sbin/init ;;
esac
echo installing: looking for the CD-ROM
for i in $(seq 200); do
  for device in /dev/sr0 /dev/vdb; do
    [ -b $device ] && mount -t iso9660 -o ro $device /cdrom 2>/dev/null && break 2
  done
  sleep 0.1
done
[ -d /cdrom/pool ] || fail no packages
echo installing: partition and file system
printf 'o\\nn\\np\\n1\\n\\n\\nw\\n' | fdisk /dev/vda >/dev/null || fail fdisk
await /dev/vda1
mke2fs -L root /dev/vda1 >/dev/null || fail mke2fs
mount -t ext4 /dev/vda1 /target || fail mount
echo installing: unpacking
for name in bin sbin lib lib64; do mkdir -p /target/usr/$name; ln -s usr/$name /target/$name; done
for deb in /cdrom/pool/*.deb; do dpkg-deb -x $deb /target || fail $deb; done
echo installing: packages
mkdir -p /target/proc /target/dev /target/media/cdrom /target/boot
mount -o bind /dev /target/dev
mount -t proc proc /target/proc
mount -o bind /cdrom /target/media/cdrom
echo root:x:0:0:root:/root:/bin/bash >/target/etc/passwd
printf 'root:x:0:\\nmail:x:8:\\nutmp:x:43:\\n' >/target/etc/group
: >/target/var/lib/dpkg/status
cat >/target/install <<'END'
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C
force='--force-depends --force-unsafe-io'
dpkg $force --unpack /media/cdrom/pool/*.deb && dpkg $force --configure base-passwd && dpkg $force --configure -a
END
chroot /target /bin/sh /install >/target/install.log 2>&1 || { tail -n 5 /target/install.log; fail dpkg; }
rm /target/install
cp /cdrom/isolinux/vmlinuz /target/boot/vmlinuz-$(uname -r)
cp /cdrom/isolinux/initrd /target/boot/initrd.img-$(uname -r)
cp /cdrom/init /target/usr/sbin/init
chmod 755 /target/usr/sbin/init
umount /target/media/cdrom; umount /target/proc; umount /target/dev; umount /target || fail umount
echo V3M-INSTALL-DONE
sync
poweroff -f
`;

interface Package {
  readonly file: string;
  readonly needs: readonly string[];
}

/** Packages of the repository by their names, and by what they provide. */
function packages(): Map<string, Package> {
  const found = new Map<string, Package>();
  const provided = new Map<string, Package>();
  for (const text of readFileSync(repositoryIndex(), "utf8").split("\n\n")) {
    const field = (name: string) => new RegExp(`^${name}: (.+)$`, "m").exec(text)?.[1] ?? "";
    const names = (name: string) =>
      field(name)
        .split(", ")
        .map((one) => /^[a-z0-9.+-]+/.exec(one)?.[0] ?? "")
        .filter((one) => one !== "");
    const one = { file: field("Filename"), needs: [...names("Pre-Depends"), ...names("Depends")] };
    if (one.file === "") continue;
    found.set(field("Package"), one);
    for (const name of names("Provides")) provided.set(name, one);
  }
  return new Map([...provided, ...found]);
}

/** Files of these packages and of what they need. */
function closure(roots: readonly string[]): string[] {
  const all = packages();
  const files = new Set<string>();
  const add = (name: string) => {
    const one = all.get(name);
    if (one === undefined) throw new Error(`the repository has no ${name}`);
    if (files.has(one.file)) return;
    files.add(one.file);
    for (const need of one.needs) if (all.has(need)) add(need);
  };
  for (const name of roots) add(name);
  return [...files];
}

async function build(iso: string): Promise<void> {
  const work = mkdtempSync(`${iso}.work-`);
  try {
    const kernel = await ensureKernel("generic");
    const initrd = await guestInitramfs({ modules: MODULES, kernel, initScript: INSTALLER });
    for (const name of ["isolinux", "pool"]) mkdirSync(join(work, name));
    copyFileSync(kernel.bzImage, join(work, "isolinux/vmlinuz"));
    copyFileSync(initrd, join(work, "isolinux/initrd"));
    copyFileSync("/usr/lib/ISOLINUX/isolinux.bin", join(work, "isolinux/isolinux.bin"));
    copyFileSync("/usr/lib/syslinux/modules/bios/ldlinux.c32", join(work, "isolinux/ldlinux.c32"));
    writeFileSync(
      join(work, "isolinux/isolinux.cfg"),
      "SERIAL 0 115200\nINCLUDE entries.cfg\nDEFAULT auto\n",
    );
    const entries = [
      "LABEL rescue\n  KERNEL vmlinuz\n  APPEND initrd=initrd console=ttyS0 quiet\n",
      "LABEL auto\n  KERNEL vmlinuz\n  APPEND initrd=initrd console=ttyS0 quiet v3m.install\n",
    ];
    writeFileSync(join(work, "isolinux/entries.cfg"), entries.join(""));
    writeFileSync(join(work, "init"), INIT);
    for (const file of closure(ROOTS)) {
      copyFileSync(join(repositoryPath(), file), join(work, "pool", file.replace(/^.*\//, "")));
    }
    const boot = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"];
    const kind = ["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"];
    const args = ["-as", "mkisofs", "-quiet", "-R", "-J", ...boot, ...kind, "-o", iso, work];
    execFileSync("xorriso", args, { stdio: "ignore" });
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** The ISO image, made at the first call. */
export async function installIso(): Promise<string> {
  return await cached(isoPath(INSTALLER + INIT + [...ROOTS, ...MODULES].join()), build);
}
