/** Initramfs images: for guests under test (`guestInitramfs`) and, from the same parts, for the testbeds themselves. */
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { cacheDir, cached } from "./common/cache.js";
import { cpio, type Entry } from "./common/cpio.js";
import { TestbedError } from "./common/errors.js";
import { tinyInit } from "./common/tiny-init.js";
import { requireTool, runTool } from "./common/tools.js";
import { ensureKernel, type GuestKernel, moduleName, readModule, resolveModules } from "./kernels.js";

export { cpio, type Entry } from "./common/cpio.js";

/** The first line that user space prints in a guest from `guestInitramfs`. */
export const GUEST_READY = "V3M-GUEST-READY";

/** Static busybox, its applet links, and the device nodes that exist before devtmpfs is mounted. */
export async function busyboxEntries(): Promise<Entry[]> {
  const path = await requireTool("busybox", "busybox-static");
  const data = await readFile(path);
  if (isDynamic(data)) {
    throw new TestbedError("E_TOOL_MISSING", `${path} is not statically linked`, {
      hint: "apt-get install busybox-static",
    });
  }
  const applets = (await runTool(path, ["--list"])).stdout.toString().split("\n").filter(Boolean);
  return [
    { type: "file", path: "bin/busybox", data, mode: 0o755 },
    ...applets
      .filter((applet) => applet !== "busybox")
      .map((applet): Entry => ({ type: "link", path: `bin/${applet}`, target: "busybox" })),
    ...["proc", "sys", "dev", "tmp", "root", "run", "etc"].map((path): Entry => ({ type: "dir", path })),
    // The kernel opens /dev/console for init before any user-space code can mount devtmpfs.
    { type: "char", path: "dev/console", major: 5, minor: 1 },
    { type: "char", path: "dev/null", major: 1, minor: 3, mode: 0o666 },
  ];
}

/** True if the program headers of an ELF64 file name an interpreter. */
function isDynamic(elf: Buffer): boolean {
  const table = Number(elf.readBigUInt64LE(32));
  const size = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  const PT_INTERP = 3;
  for (let i = 0; i < count; i++) if (elf.readUInt32LE(table + i * size) === PT_INTERP) return true;
  return false;
}

export interface GuestInitramfsOptions {
  /** Shell script that replaces the standard one (see GUEST_SCRIPT); runs as process 1 after the ready line. */
  readonly initScript?: string;
  /** Added to the image; an entry at an existing path replaces it. */
  readonly extraFiles?: readonly Entry[];
  /**
   * Modules of the kernel, loaded in this order, each after what it depends on, before the command runs:
   * `virtio_blk`. With any of them comes `virtio_pci`. What the kernel has built in is left out.
   */
  readonly modules?: readonly string[];
  /** Whose modules. Default: Debian's cloud kernel. */
  readonly kernel?: GuestKernel;
}

/**
 * A small initramfs for guests: prints `V3M-GUEST-READY` as the first thing in user space, then runs the shell
 * commands in the kernel parameter `v3m.run="..."`, or offers a shell on the console, then powers off. After a
 * command the line `V3M-GUEST-EXIT <code>` is printed. Returns the image's path in the cache.
 */
export async function guestInitramfs(options: GuestInitramfsOptions = {}): Promise<string> {
  const entries: Entry[] = [
    ...(await busyboxEntries()),
    {
      type: "file",
      path: "init",
      data: tinyInit(`${GUEST_READY}\n`, ["/bin/sh", "/etc/guest-init"]),
      mode: 0o755,
    },
    {
      type: "file",
      path: "etc/guest-init",
      data: Buffer.from(options.initScript ?? GUEST_SCRIPT),
      mode: 0o755,
    },
    ...(await moduleEntries(options)),
  ];
  const extra = options.extraFiles ?? [];
  const replaced = new Set(extra.map((entry) => entry.path.replace(/^\/+/, "")));
  const image = cpio([...entries.filter((entry) => !replaced.has(entry.path)), ...extra]);
  return storeImage("guest", image);
}

/** The modules, under `modules/`, and their names in the order of loading. */
async function moduleEntries(options: GuestInitramfsOptions): Promise<Entry[]> {
  if (options.modules === undefined || options.modules.length === 0) return [];
  const kernel = options.kernel ?? (await ensureKernel("cloud"));
  const files = await resolveModules(kernel, ["virtio_pci", ...options.modules]);
  const order = Buffer.from(`${files.map(moduleName).join("\n")}\n`);
  const entries: Entry[] = [{ type: "file", path: "modules/order", data: order }];
  for (const file of files) {
    const data = await readModule(kernel, file);
    entries.push({ type: "file", path: `modules/${moduleName(file)}`, data });
  }
  return entries;
}

/** Puts an image into the cache under its own hash and returns its path. */
export async function storeImage(name: string, image: Buffer): Promise<string> {
  const hash = createHash("sha256").update(image).digest("hex").slice(0, 16);
  return cached(cacheDir("initramfs", `${name}-${hash}.cpio`), (temporary) => writeFile(temporary, image));
}

/**
 * The command of `v3m.run` is taken from /proc/cmdline, where the kernel leaves the quotes: from `v3m.run="` to the
 * next quote, or to the next blank if there are no quotes.
 */
const GUEST_SCRIPT = `export PATH=/bin HOME=/root TERM=linux
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
ip link set lo up 2>/dev/null
if [ -f /modules/order ]; then
  while read -r module; do insmod "/modules/$module" || echo "guest-init: cannot load $module"; done </modules/order
fi
cmdline=$(cat /proc/cmdline)
command=
case "$cmdline" in
  *v3m.run=\\"*) command=\${cmdline#*v3m.run=\\"}; command=\${command%%\\"*} ;;
  *v3m.run=*) command=\${cmdline#*v3m.run=}; command=\${command%% *} ;;
  *\\"v3m.run=*) command=\${cmdline#*\\"v3m.run=}; command=\${command%%\\"*} ;;
esac
if [ -n "$command" ]; then
  sh -c "$command"
  echo "V3M-GUEST-EXIT $?"
else
  # A session of its own with the console as terminal, so that Ctrl-C reaches the foreground job.
  setsid -c sh </dev/console >/dev/console 2>&1
fi
sync
poweroff -f
`;
