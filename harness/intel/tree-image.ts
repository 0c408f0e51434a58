/**
 * Images of host files as squashfs without compression: made in about a second per 400 MB without root or mounting,
 * and read inside without work for the emulated CPU.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { cacheDir, cached, exists } from "../common/cache.js";
import { TestbedError } from "../common/errors.js";
import { requireTool } from "../common/tools.js";
import type { RunRequest } from "../testbed.js";
import { busyboxApplets, systemFiles, treeFiles } from "./contents.js";
import type { FileList } from "./file-list.js";
import { prune, touch } from "./prune.js";

/** Part of the names of images: to be raised when images are made in another way. */
const FORMAT = 1;
/** What Bochs takes for a cylinder; it wants whole ones. */
const CYLINDER = 16 * 63 * 512;
/** Images of each name that stay in the cache. */
const KEEP = 3;

export async function systemImage(log: (message: string) => void): Promise<string> {
  const list = await systemFiles();
  const links = new Map<string, string>();
  for (const applet of await busyboxApplets()) {
    const places = ["/bin", "/usr/bin", "/sbin", "/usr/sbin"].map((directory) => `${directory}/${applet}`);
    if (!places.some((path) => list.has(path))) links.set(`usr/bin/${applet}`, "/bin/busybox");
  }
  return image("system", list, links, log);
}

export async function treeImage(request: RunRequest): Promise<string> {
  return image("tree", await treeFiles(request), new Map(), request.log);
}

async function image(
  name: string,
  list: FileList,
  links: ReadonlyMap<string, string>,
  log: (message: string) => void,
): Promise<string> {
  const path = cacheDir("intel", `${name}-${FORMAT}-${list.hash()}.img`);
  if (await exists(path)) {
    await touch(path);
    return path;
  }
  await prune(`${name}-`, KEEP);
  return cached(path, async (temporary) => {
    log(
      `copying ${list.size} files (${Math.round(list.bytes / 2 ** 20)} MiB) into the machine's ${name} image`,
    );
    await build(list, links, temporary);
  });
}

/** Packs the files with tar and turns the archive into a file system, both streaming. */
async function build(list: FileList, links: ReadonlyMap<string, string>, target: string): Promise<void> {
  const tar = await requireTool("tar", "tar");
  const sqfstar = await requireTool("sqfstar", "squashfs-tools");
  const work = await mkdtemp(join(tmpdir(), "v3m-image-"));
  try {
    const names = join(work, "names");
    // An image must not be empty.
    await writeFile(names, ["", ...list.paths()].map((path) => `.${path}`).join("\0"));
    const staged = join(work, "links");
    await mkdir(staged);
    for (const [path, to] of links) {
      await mkdir(dirname(join(staged, path)), { recursive: true });
      await symlink(to, join(staged, path));
    }
    const stagedNames = join(work, "staged");
    await writeFile(stagedNames, [...links.keys()].map((path) => `./${path}`).join("\0"));
    const files = ["--null", "--no-recursion", "-C", "/", "-T", names, "-C", staged, "-T", stagedNames];
    const uncompressed = ["-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-quiet", "-b", "128K"];
    await pipe(
      [tar, "-cf", "-", "--owner=0", "--group=0", "--hard-dereference", "--ignore-failed-read", ...files],
      [sqfstar, ...uncompressed, target],
    );
    const { size } = await stat(target);
    await truncate(target, Math.ceil(size / CYLINDER) * CYLINDER);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Runs two programs with a pipe between them. */
async function pipe(first: string[], second: string[]): Promise<void> {
  const consumer = spawn(second[0] as string, second.slice(1), { stdio: ["pipe", "ignore", "pipe"] });
  const producer = spawn(first[0] as string, first.slice(1), { stdio: ["ignore", consumer.stdin, "pipe"] });
  consumer.stdin.destroy(); // The producer has it now.
  const results = await Promise.all(
    [producer, consumer].map(
      (child) =>
        new Promise<string | undefined>((resolve, reject) => {
          let errors = "";
          child.stderr?.on("data", (chunk: Buffer) => {
            errors += chunk.toString();
          });
          child.on("error", reject);
          child.on("close", (code) => resolve(code === 0 ? undefined : `${code}: ${errors.trim()}`));
        }),
    ),
  );
  // tar ends with 1 if a file changed while it was read: normal in a directory that people work in.
  const failed = results.filter((result, index) => result && !(index === 0 && result.startsWith("1:")));
  if (failed.length > 0) {
    throw new TestbedError("E_BOOT", `cannot build the machine's disk: ${failed.join("; ").slice(-1000)}`, {
      hint: `is there room in ${cacheDir()} and ${tmpdir()}?`,
    });
  }
}
