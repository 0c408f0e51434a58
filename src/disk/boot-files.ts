// SPDX-License-Identifier: Apache-2.0
/**
 * Which kernel a distribution would boot, by what it left in its boot directory. In this order: the default entry
 * of extlinux.conf, the newest Boot Loader Specification entry, the links /vmlinuz and /boot/vmlinuz, the newest
 * vmlinuz by its version. GRUB's own configuration is a program, and is not read.
 */
import type { ExtFileSystem } from "./ext.js";

export interface BootFiles {
  /** Within the file system, without a slash in front. */
  readonly kernel: { readonly path: string; readonly bytes: number };
  readonly initrd: { readonly path: string; readonly bytes: number } | undefined;
}

interface Choice {
  readonly kernel: string;
  readonly initrd: string | undefined;
}

const KERNEL_NAME = /^(?:vmlinuz|vmlinux|bzImage|kernel)(?:-(.+))?$/;
/** Not what a machine should boot by itself. */
const SPECIAL = /rescue|recovery|\.old$|\.bak$|\.dpkg-/;

const versions = new Intl.Collator("en", { numeric: true });

/** `/boot/x`, as it is written in configuration, to a path within this file system. */
function within(path: string | undefined): string | undefined {
  return path?.replace(/^\/+/, "");
}

/** Entries of extlinux.conf: the one that DEFAULT names, else the first. */
export function extlinuxChoice(text: string): Choice | undefined {
  const entries: { label: string; kernel?: string; initrd?: string }[] = [];
  let chosen: string | undefined;
  for (const line of text.split("\n")) {
    const [word = "", ...rest] = line.trim().split(/\s+/);
    const value = rest.join(" ");
    const entry = entries.at(-1);
    switch (word.toLowerCase()) {
      case "default":
        chosen = value;
        break;
      case "label":
        entries.push({ label: value });
        break;
      case "kernel":
      case "linux":
        if (entry !== undefined) entry.kernel = value;
        break;
      case "initrd":
        if (entry !== undefined) entry.initrd = value.split(",")[0] ?? value;
        break;
      case "append": {
        const named = /(?:^|\s)initrd=(\S+)/.exec(value)?.[1];
        if (entry !== undefined && named !== undefined) entry.initrd ??= named;
        break;
      }
    }
  }
  const entry = entries.find(({ label }) => label === chosen) ?? entries[0];
  const kernel = within(entry?.kernel);
  return kernel === undefined ? undefined : { kernel, initrd: within(entry?.initrd) };
}

/** A Boot Loader Specification entry of type 1. */
export function loaderEntry(text: string): Choice | undefined {
  const value = (key: string) => within(new RegExp(`^${key}[ \\t]+(\\S+)`, "m").exec(text)?.[1]);
  const kernel = value("linux");
  return kernel === undefined ? undefined : { kernel, initrd: value("initrd") };
}

/** Names of the initrd that go with a kernel of a name. */
function initrdNames(kernel: string): string[] {
  const version = KERNEL_NAME.exec(kernel)?.[1];
  if (version === undefined) {
    return ["initrd.img", "initrd", "initramfs.img"];
  }
  return [
    `initrd.img-${version}`, // Debian
    `initramfs-${version}.img`, // Fedora, Arch
    `initrd-${version}`, // openSUSE
    `initramfs-${version}`, // Alpine, Gentoo
  ];
}

class BootFinder {
  readonly #files: ExtFileSystem;

  constructor(files: ExtFileSystem) {
    this.#files = files;
  }

  /** A choice whose files are there; paths of a file system for /boot alone lack the `/boot`. */
  async #existing(choice: Choice | undefined, bases: readonly string[]): Promise<BootFiles | undefined> {
    const find = async (path: string | undefined) => {
      for (const base of path === undefined ? [] : bases) {
        const found = await this.#files.resolve(join(base, path ?? ""));
        if (found !== undefined) return found;
      }
      return undefined;
    };
    const kernel = await find(choice?.kernel);
    return kernel === undefined ? undefined : { kernel, initrd: await find(choice?.initrd) };
  }

  async configured(boot: string): Promise<BootFiles | undefined> {
    for (const name of ["extlinux/extlinux.conf", "extlinux.conf", "syslinux/syslinux.cfg"]) {
      const path = join(boot, name);
      const choice = extlinuxChoice(await this.#files.readText(path));
      const directory = path.slice(0, Math.max(0, path.lastIndexOf("/")));
      const found = await this.#existing(choice, ["", directory, boot]);
      if (found !== undefined) return found;
    }
    const directory = join(boot, "loader/entries");
    const names = (await this.#files.list(directory)).map(({ name }) => name);
    const entries = names.filter((name) => name.endsWith(".conf") && !SPECIAL.test(name));
    for (const name of entries.sort(versions.compare).reverse()) {
      const choice = loaderEntry(await this.#files.readText(join(directory, name)));
      const found = await this.#existing(choice, ["", boot]);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Links that point at the kernel to boot: in the root (Debian), in /boot (Ubuntu, openSUSE). */
  async linked(directory: string): Promise<BootFiles | undefined> {
    const entries = await this.#files.list(directory);
    const link = (name: string) => entries.some((entry) => entry.name === name && entry.type === "link");
    if (!link("vmlinuz")) {
      return undefined;
    }
    const initrd = ["initrd.img", "initrd"].find(link);
    const choice = {
      kernel: join(directory, "vmlinuz"),
      initrd: initrd === undefined ? undefined : join(directory, initrd),
    };
    return this.#existing(choice, [""]);
  }

  async newest(directory: string): Promise<BootFiles | undefined> {
    const entries = await this.#files.list(directory);
    const names = entries
      .filter(({ name, type }) => type === "file" && KERNEL_NAME.test(name) && !SPECIAL.test(name))
      .map(({ name }) => name);
    const kernel = names.sort(versions.compare).at(-1);
    if (kernel === undefined) {
      return undefined;
    }
    const initrd = initrdNames(kernel).find((name) => entries.some((entry) => entry.name === name));
    const choice = {
      kernel: join(directory, kernel),
      initrd: initrd === undefined ? undefined : join(directory, initrd),
    };
    return this.#existing(choice, [""]);
  }
}

function join(directory: string, name: string): string {
  return directory === "" ? name : `${directory}/${name}`;
}

/**
 * The kernel and initrd of a file system, whether it is a root file system or one for /boot alone; undefined
 * where it holds none.
 */
export async function findBootFiles(files: ExtFileSystem): Promise<BootFiles | undefined> {
  const finder = new BootFinder(files);
  const root = await files.list("");
  const boot = root.some(({ name, type }) => name === "boot" && type === "directory");
  const places = boot ? ["boot", ""] : [""];
  const searches = [
    ...places.map((place) => () => finder.configured(place)),
    ...["", ...places].map((place) => () => finder.linked(place)),
    ...places.map((place) => () => finder.newest(place)),
  ];
  for (const search of searches) {
    const found = await search();
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
}

/** Whether it looks like a root file system. */
export async function isRoot(files: ExtFileSystem): Promise<boolean> {
  const names = new Set((await files.list("")).map(({ name }) => name));
  return names.has("etc") && (names.has("usr") || names.has("sbin"));
}
