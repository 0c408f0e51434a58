/** Debian guest kernels, fetched by apt and unpacked into the cache, used from there without network afterwards. */
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cached } from "./common/cache.js";
import { TestbedError } from "./common/errors.js";
import { findTool, requireTool, runTool } from "./common/tools.js";

/** `cloud`: small, virtio modules, no 9p. `generic`: everything, with 9p. */
export type KernelFlavour = "cloud" | "generic";

export interface GuestKernel {
  readonly flavour: KernelFlavour;
  /** As in `uname -r`, for example `6.1.0-56-cloud-amd64`. */
  readonly version: string;
  readonly bzImage: string;
  /** The directory that is `/lib/modules/<version>` on an installed system; modules.dep is there. */
  readonly modulesDir: string;
  /** The kernel's build configuration (`CONFIG_...` lines). */
  readonly config: string;
}

export interface EnsureKernelOptions {
  readonly log?: (message: string) => void;
  /** Ask apt for the current version even if some version is cached. Default false. */
  readonly refresh?: boolean;
}

const METAPACKAGE: Record<KernelFlavour, string> = {
  cloud: "linux-image-cloud-amd64",
  generic: "linux-image-amd64",
};

const OFFLINE_HINT =
  'On Debian: run "apt-get update" as root and try again. Elsewhere: copy ~/.cache/v3m/kernels from a Debian machine';

/** Returns the newest cached kernel of a flavour; with an empty cache, downloads it. E_KERNEL_FETCH, E_TOOL_MISSING. */
export async function ensureKernel(
  flavour: KernelFlavour,
  options: EnsureKernelOptions = {},
): Promise<GuestKernel> {
  const log = options.log ?? (() => {});
  if (!options.refresh) {
    const newest = await newestCached(flavour);
    if (newest) return describe(flavour, newest);
  }
  const version = await currentVersion(flavour);
  await cached(cacheDir("kernels", flavour, version), async (temporary) => {
    log(`fetching Debian's kernel ${version}`);
    await download(version, temporary);
  });
  return describe(flavour, version);
}

function describe(flavour: KernelFlavour, version: string): GuestKernel {
  const root = cacheDir("kernels", flavour, version);
  return {
    flavour,
    version,
    bzImage: join(root, "boot", `vmlinuz-${version}`),
    modulesDir: join(root, "lib", "modules", version),
    config: join(root, "boot", `config-${version}`),
  };
}

async function newestCached(flavour: KernelFlavour): Promise<string | undefined> {
  const names = await readdir(cacheDir("kernels", flavour)).catch(() => [] as string[]);
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  return names
    .filter((name) => !name.includes(".tmp-"))
    .sort(compare)
    .at(-1);
}

/** The version that the metapackage depends on, by apt's present package lists. */
async function currentVersion(flavour: KernelFlavour): Promise<string> {
  const aptCache = await requireApt("apt-cache");
  const result = await runTool(aptCache, ["depends", "--no-recommends", METAPACKAGE[flavour]], {
    env: { ...process.env, LC_ALL: "C" },
  });
  const match = /Depends: linux-image-(\d\S*amd64)/.exec(result.stdout.toString());
  if (match?.[1]) return match[1];
  throw new TestbedError("E_KERNEL_FETCH", `apt knows no package ${METAPACKAGE[flavour]}`, {
    hint: OFFLINE_HINT,
  });
}

/** Downloads and unpacks kernel `version` so that `target` holds boot/ and lib/modules/. */
async function download(version: string, target: string): Promise<void> {
  const aptGet = await requireApt("apt-get");
  const dpkgDeb = await requireApt("dpkg-deb");
  const work = join(target, "download");
  await mkdir(work, { recursive: true });
  try {
    // The unsigned build is the same kernel; some mirrors and architectures carry only one of the two.
    let message = "";
    let deb: string | undefined;
    for (const name of [`linux-image-${version}`, `linux-image-${version}-unsigned`]) {
      // Run as root, apt would fetch as a user of its own, who cannot write to root's cache.
      const options = ["-q", "-o", "APT::Sandbox::User=root", "download", name];
      const result = await runTool(aptGet, options, { cwd: work });
      deb = (await readdir(work)).find((file) => file.endsWith(".deb"));
      if (result.code === 0 && deb) break;
      message = result.stderr;
    }
    if (!deb) {
      throw new TestbedError("E_KERNEL_FETCH", `cannot download linux-image-${version}: ${message}`, {
        hint: OFFLINE_HINT,
      });
    }
    const unpack = await runTool(dpkgDeb, ["-x", join(work, deb), target]);
    if (unpack.code !== 0) throw new TestbedError("E_KERNEL_FETCH", `cannot unpack ${deb}: ${unpack.stderr}`);
    await useMergedLayout(target);
    await indexModules(target, version);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Newer Debian ships modules in usr/lib; everybody here expects lib. */
async function useMergedLayout(root: string): Promise<void> {
  const merged = join(root, "usr", "lib", "modules");
  if (!(await readdir(merged).catch(() => undefined))) return;
  await mkdir(join(root, "lib"), { recursive: true });
  await rename(merged, join(root, "lib", "modules"));
}

/** Packages carry no modules.dep: their post-install script makes it. */
async function indexModules(root: string, version: string): Promise<void> {
  const depmod = await findTool("depmod");
  const result = depmod
    ? await runTool(depmod, ["-b", root, version])
    : await runTool(await requireTool("busybox", "busybox-static"), ["depmod", "-b", root, version]);
  const index = await readFile(join(root, "lib", "modules", version, "modules.dep"), "utf8").catch(() => "");
  if (result.code !== 0 || index === "") {
    throw new TestbedError("E_KERNEL_FETCH", `cannot index the modules of ${version}: ${result.stderr}`, {
      hint: "apt-get install kmod",
    });
  }
}

async function requireApt(tool: string): Promise<string> {
  const path = await findTool(tool);
  if (path) return path;
  throw new TestbedError(
    "E_TOOL_MISSING",
    `${tool} is not installed: guest kernels come from Debian by apt`,
    {
      hint: OFFLINE_HINT,
    },
  );
}

/**
 * Files of the named modules and of all that they depend on, in an order in which they can be loaded. Names that are
 * built in (or do not exist) are left out. `_` and `-` are the same in a name. Paths are relative to `modulesDir`.
 */
export async function resolveModules(kernel: GuestKernel, names: readonly string[]): Promise<string[]> {
  const index = await readFile(join(kernel.modulesDir, "modules.dep"), "utf8");
  const dependencies = new Map<string, string[]>();
  const fileOf = new Map<string, string>();
  for (const line of index.split("\n")) {
    const [file, rest] = line.split(":");
    if (!file || rest === undefined) continue;
    dependencies.set(file, rest.split(" ").filter(Boolean));
    fileOf.set(moduleName(file), file);
  }
  const order: string[] = [];
  const visit = (file: string): void => {
    if (order.includes(file)) return;
    for (const dependency of dependencies.get(file) ?? []) visit(dependency);
    if (!order.includes(file)) order.push(file);
  };
  for (const name of names) {
    const file = fileOf.get(name.replaceAll("-", "_"));
    if (file) visit(file);
  }
  return order;
}

/** Programs that unpack modules, by file suffix; Debian 12 ships them plain, Debian 13 as xz. */
const UNPACKERS: Record<string, readonly [string, string]> = {
  ".xz": ["xz", "xz-utils"],
  ".zst": ["zstd", "zstd"],
  ".gz": ["gzip", "gzip"],
};

/** A module as the kernel takes it: unpacked here, once, and not in the machine at each start. */
export async function readModule(kernel: GuestKernel, file: string): Promise<Buffer> {
  const path = join(kernel.modulesDir, file);
  const suffix = /\.ko(\.\w+)?$/.exec(file)?.[1] ?? "";
  if (suffix === "") return readFile(path);
  const [program, debianPackage] = UNPACKERS[suffix] ?? [];
  if (!program || !debianPackage) {
    throw new TestbedError("E_KERNEL_FETCH", `${path} is packed in an unknown way`);
  }
  const result = await runTool(await requireTool(program, debianPackage), ["-dc", path]);
  if (result.code !== 0) {
    throw new TestbedError("E_KERNEL_FETCH", `cannot unpack ${path}: ${result.stderr}`);
  }
  return result.stdout;
}

/** Of a module's file: `virtio_blk` for `kernel/drivers/block/virtio_blk.ko.xz`. */
export function moduleName(file: string): string {
  const base = file.slice(file.lastIndexOf("/") + 1);
  return base.replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");
}
