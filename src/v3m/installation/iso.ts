// SPDX-License-Identifier: Apache-2.0
/** The installer of a CD-ROM: its kernel and initrd, copied out of the ISO image by xorriso. */
import { readFile, stat, writeFile } from "node:fs/promises";
import { ImageError } from "../../images/errors.js";
import { runTool, TOOLS } from "../../images/tools.js";
import type { KernelBoot } from "../definition/types.js";
import { type BootEntry, besides, grubChoice, isolinuxChoice } from "./boot-configuration.js";

const CONFIGURATION_MAX = 1 << 20;
const INCLUDES_MAX = 32;
const ISOLINUX = /^(\/boot)?(\/isolinux|\/syslinux)?\/(isolinux|syslinux|extlinux)\.(cfg|conf)$/i;
const GRUB = /^(\/boot\/grub2?|\/efi\/boot)\/grub\.cfg$/i;

class Cd {
  readonly #iso: string;
  readonly #work: string;
  readonly #signal: AbortSignal | undefined;
  /** In small letters → as they are. */
  readonly #files = new Map<string, string>();
  #copies = 0;

  private constructor(iso: string, work: string, signal: AbortSignal | undefined) {
    this.#iso = iso;
    this.#work = work;
    this.#signal = signal;
  }

  static async open(iso: string, work: string, signal: AbortSignal | undefined): Promise<Cd> {
    await stat(iso).catch((cause: NodeJS.ErrnoException) => {
      const why = cause.code === "ENOENT" ? "there is no such file" : cause.message;
      throw new ImageError("E_IO", `${iso}: ${why}`, {
        errno: cause.code,
        hint: "give the path of an ISO image",
        cause,
      });
    });
    const cd = new Cd(iso, work, signal);
    for (const line of (await cd.#xorriso(["-find", "/", "-type", "f"])).split("\n")) {
      const path = /^'(\/.*)'$/.exec(line)?.[1];
      if (path !== undefined) cd.#files.set(path.toLowerCase(), path);
    }
    return cd;
  }

  async #xorriso(args: readonly string[]): Promise<string> {
    try {
      const quiet = ["-abort_on", "FAILURE", "-report_about", "SORRY", "-osirrox", "on:auto_chmod_on"];
      return await runTool(TOOLS.xorriso, [...quiet, "-indev", this.#iso, ...args], { signal: this.#signal });
    } catch (error) {
      if (!(error instanceof ImageError) || error.code !== "E_IO" || error.errno !== undefined) throw error;
      throw new ImageError("E_BAD_IMAGE", `${this.#iso} is no ISO image, or a damaged one`, {
        hint: "give the path of an ISO image",
        cause: error,
      });
    }
  }

  find(pattern: RegExp): string | undefined {
    return [...this.#files.keys()].sort().find((path) => pattern.test(path));
  }

  /** Copy a file out. @returns the path of the copy */
  async copy(path: string): Promise<string> {
    const found = this.#files.get(path.toLowerCase().replace(/\/+/g, "/"));
    if (found === undefined) {
      throw new ImageError("E_BAD_IMAGE", `${this.#iso}: its boot loader boots ${path}, which is not there`, {
        hint: "boot it with type Qemu",
      });
    }
    const to = `${this.#work}/cd-${this.#copies++}`;
    await this.#xorriso(["-extract", found, to]);
    return to;
  }

  async text(path: string): Promise<string> {
    const copy = await this.copy(path);
    return (await stat(copy)).size > CONFIGURATION_MAX ? "" : await readFile(copy, "latin1");
  }
}

/** A configuration of ISOLINUX's with the files that it includes in their places. */
async function withIncludes(cd: Cd, path: string, left = { count: INCLUDES_MAX }): Promise<string> {
  const lines: string[] = [];
  for (const line of (await cd.text(path)).split("\n")) {
    const name = /^\s*(?:menu\s+)?include\s+(\S+)/i.exec(line)?.[1];
    if (name === undefined) lines.push(line);
    else if (left.count-- > 0) {
      const included = await withIncludes(cd, besides(path, name), left).catch(() => "");
      lines.push(included);
    }
  }
  return lines.join("\n");
}

async function entryOf(cd: Cd): Promise<BootEntry | undefined> {
  const isolinux = cd.find(ISOLINUX);
  const choice = isolinux === undefined ? undefined : isolinuxChoice(await withIncludes(cd, isolinux));
  if (choice !== undefined)
    return {
      ...choice,
      kernel: besides(isolinux ?? "", choice.kernel),
      initrds: choice.initrds.map((one) => besides(isolinux ?? "", one)),
    };
  const grub = cd.find(GRUB);
  return grub === undefined ? undefined : grubChoice(await cd.text(grub));
}

/** Several archives are one after the other, each from a multiple of four bytes on. */
async function joined(files: readonly string[], to: string): Promise<string> {
  if (files.length === 1) return files[0] ?? "";
  const parts: Buffer[] = [];
  for (const file of files) {
    const data = await readFile(file);
    parts.push(data, Buffer.alloc((4 - (data.length % 4)) % 4));
  }
  await writeFile(to, Buffer.concat(parts));
  return to;
}

/**
 * What the boot loader of a CD-ROM would boot, to be booted directly. Its console is the serial one.
 * @param work a directory for the copies
 * @throws ImageError E_BAD_IMAGE, E_IO, E_UNSUPPORTED (no xorriso); AbortedError
 */
export async function installerBoot(iso: string, work: string, signal?: AbortSignal): Promise<KernelBoot> {
  const cd = await Cd.open(iso, work, signal);
  const entry = await entryOf(cd);
  if (entry === undefined) {
    throw new ImageError("E_BAD_IMAGE", `${iso}: no ISOLINUX or GRUB configuration that names a kernel`, {
      hint: "boot it with type Qemu",
    });
  }
  const kernel = await cd.copy(entry.kernel);
  const initrds: string[] = [];
  for (const path of entry.initrds) initrds.push(await cd.copy(path));
  const console = /\bconsole=/.test(entry.cmdline) ? "" : "console=ttyS0 ";
  return {
    from: "kernel",
    kernel,
    kind: "auto",
    ...(initrds.length === 0 ? {} : { initrd: await joined(initrds, `${work}/cd-initrd`) }),
    cmdline: console + entry.cmdline,
    unpack: true,
  };
}
