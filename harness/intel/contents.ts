/**
 * What the machine holds of the host's files. There is no shared file system under Bochs, so what a command may need
 * is copied into two images beforehand: the system (rarely changes) and the tree around the caller's directory.
 */
import { readdir, realpath } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, delimiter, dirname, isAbsolute, join, relative } from "node:path";
import { cacheDir, exists } from "../common/cache.js";
import { TestbedError } from "../common/errors.js";
import { findTool, requireTool, runTool } from "../common/tools.js";
import { cachedMinimalGdb } from "../minimal-gdb.js";
import type { RunRequest } from "../testbed.js";
import { FileList, findUp } from "./file-list.js";
import { librariesOf } from "./libraries.js";

/** Programs of the host that are in every machine, where the host has them; busybox stands in for what is missing. */
const PROGRAMS = `
  sh bash dash env busybox
  cat chmod cp cut date dd df du echo expr false head id ln ls mkdir mkfifo mknod mktemp mv nproc od printf
  readlink realpath rm rmdir seq sha256sum sleep sort stat stty tail tee test timeout touch tr true truncate
  uname uniq wc xargs find grep sed awk mawk gawk diff cmp tar gzip cpio zstd lz4 xz
  ps kill lscpu dmesg mount umount ip taskset setpriv prlimit setsid unshare nsenter chroot kmod modprobe insmod lsmod rmmod
  depmod readelf objdump strace
`
  .trim()
  .split(/\s+/);

/** Small files that programs look at. */
const SYSTEM_FILES = [
  ...["passwd", "group", "hosts", "nsswitch.conf", "os-release", "ld.so.cache", "ld.so.conf", "localtime"],
  ...["debian_version", "protocols", "services", "alternatives/awk"],
].map((name) => `/etc/${name}`);

/** Directories of V3M's cache that serve the host only: saved machines, images of testbeds. */
const HOST_CACHES = ["machines", "intel", "disks", "disk-boot"];

/** Left out of the caller's tree: large, and of no use to a command in a machine without network. */
const EXCLUDED =
  /\/(\.git|node_modules\/(@biomejs|@typescript|typescript|\.cache|\.vite)|native\/build\/(asan|fuzz|coverage))$/;

/** More than this in a tree is a mistake (the home directory, say), not a project. */
const TREE_LIMIT = 3 * 2 ** 30;

/** Further paths to take along, separated by colons: `--env V3M_TESTBED_INCLUDE=/path:/another`. */
export const INCLUDE_VARIABLE = "V3M_TESTBED_INCLUDE";

/** Node, a shell with the usual programs, their libraries, and the guest kernels that are in the cache. */
export async function systemFiles(): Promise<FileList> {
  const list = new FileList();
  // Links that a merged system has in its root, and that libraries and scripts are named by.
  for (const path of ["/bin", "/sbin", "/lib", "/lib64", "/usr/bin/env"]) await list.add(path);
  await requireTool("busybox", "busybox-static");
  const programs = [process.execPath];
  for (const name of PROGRAMS) programs.push((await findTool(name)) ?? "");
  programs.push((await cachedMinimalGdb()) ?? "");
  const found = programs.filter(Boolean);
  for (const path of [...found, ...(await librariesOf(found)), ...SYSTEM_FILES]) await list.add(path);

  for (const name of await readdir(cacheDir()).catch(() => [] as string[])) {
    if (HOST_CACHES.includes(name)) continue;
    await list.addTree(cacheDir(name), excludeFromCache);
  }
  return list;
}

/** Of Debian's generic kernel only the kernel itself: its modules are many, and the machine runs the cloud kernel. */
function excludeFromCache(path: string): boolean {
  return path.includes(".tmp-") || /\/kernels\/generic\/[^/]+\/(lib|usr)\/.*\/kernel$/.test(path);
}

/** The project the caller stands in, the command's program, and what the request asks for besides. */
export async function treeFiles(request: RunRequest): Promise<FileList> {
  const list = new FileList();
  const root = await projectOf(request.cwd);
  if (root !== undefined) await list.addTree(root, (path) => EXCLUDED.test(path));
  else await list.add(request.cwd);

  for (const path of (request.env[INCLUDE_VARIABLE] ?? "").split(delimiter).filter(Boolean)) {
    const absolute = isAbsolute(path) ? path : join(request.cwd, path);
    if (!(await exists(absolute))) {
      throw new TestbedError("E_USAGE", `${INCLUDE_VARIABLE}: there is no ${absolute}`);
    }
    await list.addTree(absolute);
  }
  const program = await programOf(request);
  if (program !== undefined) await list.add(program);

  const binaries = list.paths().filter((path) => /\.(node|so)$|\.so\./.test(basename(path)));
  if (program !== undefined) binaries.push(program);
  for (const path of await librariesOf(binaries)) await list.add(path);
  if (list.bytes > TREE_LIMIT) {
    throw new TestbedError("E_USAGE", `${root ?? request.cwd} is too large to be copied into the machine`, {
      hint: "start from a smaller directory, one that holds a package.json or .git",
    });
  }
  return list;
}

/** The project's top directory; undefined where taking everything along would be absurd. */
async function projectOf(cwd: string): Promise<string | undefined> {
  const root = (await findUp(cwd, [".git"])) ?? (await findUp(cwd, ["package.json"])) ?? cwd;
  const real = await realpath(root);
  const absurd = [dirname(homedir()), homedir(), "/", "/tmp", "/usr", "/etc", "/var"];
  return absurd.includes(real) ? undefined : root;
}

/** The file that the command names, found as inside: by the PATH of its environment. */
async function programOf(request: RunRequest): Promise<string | undefined> {
  const [name = ""] = request.command;
  const places = name.includes("/")
    ? [join(isAbsolute(name) ? "/" : request.cwd, name)]
    : (request.env.PATH ?? "").split(delimiter).map((directory) => join(directory, name));
  for (const path of places) {
    // What lies in the tree is there anyway, or was left out on purpose.
    if ((await exists(path)) && relative(request.cwd, path) !== "") return path;
  }
  return undefined;
}

/** Names of busybox's applets. */
export async function busyboxApplets(): Promise<string[]> {
  const busybox = await requireTool("busybox", "busybox-static");
  const { stdout } = await runTool(busybox, ["--list"]);
  return stdout
    .toString()
    .split("\n")
    .filter((name) => name !== "" && name !== "busybox");
}
