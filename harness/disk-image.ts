// SPDX-License-Identifier: Apache-2.0
/**
 * A small Debian on a disk, for tests: made by mmdebstrap from this host's own Debian mirror, once, and kept in
 * the cache under a hash of its recipe.
 *
 *     const { path, password } = await debianDisk();      // …/v3m/disks/debian-3f2a….img
 *
 * GPT, one ext4 partition, systemd, network by DHCP, a login prompt on the console, Debian's cloud kernel in
 * /boot, and the programs that tests and benchmarks run: fio, iperf3, sockperf. It is never written to: give a
 * machine an overlay over it. `node dist/harness/disk-image.js` makes it, and prints its path.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir, cached, exists } from "./common/cache.js";
import { TestbedError } from "./common/errors.js";
import { findTool, requireTool, runTool } from "./common/tools.js";

export interface DebianDisk {
  /** A raw image. Not to be written to. */
  readonly path: string;
  readonly user: "root";
  readonly password: string;
}

export interface DebianDiskOptions {
  readonly log?: (message: string) => void;
}

const PASSWORD = "v3m";
const PASSWORD_HASH =
  "$6$v3m$zBdPv8oWqHoAiN1TZcm3uMtP4Bd11VXezMhRLdW2Yi/4LWjIha0WU7.50hggvkk3.FVKFCesy3GMUxoH7nVDX0";

const PACKAGES = [
  "systemd-sysv",
  "udev",
  "dbus",
  "systemd-resolved",
  "iproute2",
  "iputils-ping",
  "login",
  "kmod",
  "pciutils",
  "e2fsprogs",
  "busybox",
  "fio",
  "iperf3",
  "sockperf",
  "linux-image-cloud-amd64",
] as const;

/** What nobody reads there. */
const LEFT_OUT = ["man", "doc", "info", "locale", "lintian"].map((name) => `/usr/share/${name}/*`);

const MIB = 1 << 20;
/** Of the file system; the file is sparse. */
const ROOT_MIB = 1024;
const OFFSET = MIB;

/** Fixed, so that an image made twice is the same but for what changed in the packages. */
const ID = {
  disk: "3f1b9d7c-52a6-4c0e-8d4b-6f2f3a1c0e01",
  partition: "3f1b9d7c-52a6-4c0e-8d4b-6f2f3a1c0e02",
  root: "3f1b9d7c-52a6-4c0e-8d4b-6f2f3a1c0e03",
  seed: "3f1b9d7c-52a6-4c0e-8d4b-6f2f3a1c0e04",
};
/** The time of every file, and of the file system: 2024-01-01. */
const EPOCH = "1704067200";

/** Runs on the host with the new root's path as $1, after the packages are installed. */
const CUSTOMIZE = `set -e
cd "$1"
echo debian >etc/hostname
printf '127.0.0.1 localhost\\n127.0.1.1 debian\\n::1 localhost ip6-localhost\\n' >etc/hosts
ln -sfn ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
echo 'LABEL=root / ext4 defaults,errors=remount-ro 0 1' >etc/fstab
printf '[Match]\\nType=ether\\n\\n[Network]\\nDHCP=yes\\n' >etc/systemd/network/80-ether.network
chroot . usermod -p '${PASSWORD_HASH}' root
echo 'Acquire::Languages "none";' >etc/apt/apt.conf.d/90languages
chroot . systemctl -q enable systemd-networkd systemd-resolved
chroot . systemctl -q set-default multi-user.target
# Nothing should run by itself while something is measured.
chroot . systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \\
  e2scrub_reap.service fstrim.timer
`;

/** In the directory $1 with the archive root.tar: the file system, in the partition of the image $2. */
const MAKE_FILE_SYSTEM = `set -e
mkdir "$1/root"
tar -C "$1/root" --numeric-owner --exclude='./dev/*' -xf "$1/root.tar"
E2FSPROGS_FAKE_TIME=${EPOCH} mke2fs -q -F -t ext4 -L root -U ${ID.root} -m 1 -d "$1/root" \\
  -E offset=${OFFSET},hash_seed=${ID.seed},lazy_itable_init=0,nodiscard "$2" ${ROOT_MIB}M
rm -rf "$1/root"
`;

const PARTITIONS = `label: gpt
label-id: ${ID.disk}
start=${OFFSET / 512}, size=${(ROOT_MIB * MIB) / 512}, type=L, uuid=${ID.partition}
`;

/** The image, made at the first call. @throws TestbedError E_TOOL_MISSING, E_KERNEL_FETCH */
export async function debianDisk(options: DebianDiskOptions = {}): Promise<DebianDisk> {
  const log = options.log ?? (() => {});
  const recipe = [PACKAGES, LEFT_OUT, CUSTOMIZE, MAKE_FILE_SYSTEM, PARTITIONS, EPOCH];
  const hash = createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 16);
  const path = cacheDir("disks", `debian-${hash}.img`);
  if (!(await exists(path))) {
    await mkdir(dirname(path), { recursive: true });
    await locked(`${path}.lock`, () => cached(path, (temporary) => build(temporary, log)));
  }
  return { path, user: "root", password: PASSWORD };
}

async function build(image: string, log: (message: string) => void): Promise<void> {
  const mmdebstrap = await requireTool("mmdebstrap", "mmdebstrap");
  const sfdisk = await requireTool("sfdisk", "fdisk");
  await requireTool("mke2fs", "e2fsprogs");
  const { suite, sources } = await debianSources();
  log(`making a Debian disk image from ${suite}; this takes a minute or two`);
  const work = `${image}.work`;
  await mkdir(work, { mode: 0o755 });
  try {
    const archive = join(work, "root.tar");
    const env = { ...process.env, ...(await aptProxy()), SOURCE_DATE_EPOCH: EPOCH, LC_ALL: "C" };
    await must(mmdebstrap, mmdebstrapArguments(suite, archive, sources), env);
    await writeFile(image, "");
    await truncate(image, ROOT_MIB * MIB + 2 * OFFSET);
    await writeFile(join(work, "partitions"), PARTITIONS);
    await must("/bin/sh", ["-c", '"$0" -q "$1" <"$2"', sfdisk, image, join(work, "partitions")], env);
    const script = ["/bin/sh", "-c", MAKE_FILE_SYSTEM, "mkfs", work, image];
    const [program, ...args] = process.geteuid?.() === 0 ? script : [...AS_ROOT, ...script];
    await must(program ?? "", args, { ...env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Root in a user namespace, with the user's range of subordinate ids: files keep their owners. */
const AS_ROOT = ["unshare", "--map-root-user", "--map-auto", "--"];

function mmdebstrapArguments(suite: string, archive: string, sources: readonly string[]): string[] {
  return [
    "--quiet",
    "--variant=minbase",
    "--format=tar",
    `--include=${PACKAGES.join(",")}`,
    ...LEFT_OUT.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    `--customize-hook=${CUSTOMIZE}`,
    suite,
    archive,
    ...sources,
  ];
}

/** The mirrors of the host's own release that its apt uses: nothing of other vendors. */
async function debianSources(): Promise<{ suite: string; sources: string[] }> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  const suite = /^VERSION_CODENAME=(\w+)$/m.exec(release)?.[1];
  const aptGet = await findTool("apt-get");
  if (suite === undefined || aptGet === undefined || !/^ID=debian$/m.test(release)) {
    throw new TestbedError("E_TOOL_MISSING", "the test disk is made from packages, on Debian only", {
      hint: "copy ~/.cache/v3m/disks from a Debian machine",
    });
  }
  const format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
  const listed = await runTool(aptGet, ["indextargets", "--format", format, "Created-By: Packages"]);
  const ours = new RegExp(`^\\S+ ${suite}(-updates|-security)? main$`);
  const lines = [...new Set(listed.stdout.toString().split("\n"))].filter((line) => ours.test(line));
  if (lines.length === 0) {
    throw new TestbedError("E_KERNEL_FETCH", `apt knows no mirror of Debian ${suite}`, {
      hint: 'run "apt-get update" as root and try again',
    });
  }
  return { suite, sources: lines.map((line) => `deb ${line}`) };
}

/** apt's proxy as variables, which do not end up in the image as its configuration would. */
async function aptProxy(): Promise<NodeJS.ProcessEnv> {
  const aptConfig = await findTool("apt-config");
  if (aptConfig === undefined) return {};
  const asked = ["shell", "http", "Acquire::http::Proxy", "https", "Acquire::https::Proxy"];
  const text = (await runTool(aptConfig, asked)).stdout.toString();
  const found = [...text.matchAll(/^(http|https)='([^']+)'$/gm)];
  return Object.fromEntries(found.map(([, scheme, url]) => [`${scheme}_proxy`, url]));
}

async function must(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const result = await runTool(program, args, { env });
  if (result.code !== 0) {
    const end = result.stderr.split("\n").slice(-15).join("\n");
    throw new TestbedError("E_KERNEL_FETCH", `cannot make the Debian disk image: ${end}`, {
      hint: "see whether apt-get update works and the disk has 3 GiB to spare: df -h ~/.cache",
    });
  }
}

/** Do something while no other process does it. The lock goes with this process, however that ends. */
async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  const holder = spawn("flock", [path, "sh", "-c", "echo; exec cat"], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(holder, "close");
  holder.stdin.on("error", () => {}); // it was killed: cached() alone is safe too
  await Promise.race([once(holder.stdout, "data"), ended]);
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await ended;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log((await debianDisk({ log: (message) => console.error(message) })).path);
  } catch (error) {
    if (!(error instanceof TestbedError)) throw error;
    console.error(`${error.message} [${error.code}]\nhint: ${error.hint}`);
    process.exitCode = 1;
  }
}
