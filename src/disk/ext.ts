// SPDX-License-Identifier: Apache-2.0
/**
 * Reading an ext2, ext3 or ext4 file system in an image without mounting it, by e2fsprogs' debugfs: neither root
 * nor a loop device is needed. The image is given to it as a descriptor, so that no name in it means anything.
 */
import { spawn } from "node:child_process";
import type { FileHandle } from "node:fs/promises";
import { VmmError } from "../errors.js";

export interface DirectoryEntry {
  readonly name: string;
  readonly type: "file" | "directory" | "link" | "other";
  readonly bytes: number;
}

/** No kernel's or initrd's name has other characters, and debugfs's commands need no quoting then. */
const PLAIN = /^[\w.+~@-]+(\/[\w.+~@-]+)*$/;
const LISTING_MAX = 4 << 20;
/** Against a damaged file system that sends debugfs in circles. */
const LIMIT_MS = 120_000;
/** debugfs is in sbin, which a user's PATH often lacks. */
const SBIN = "/usr/local/sbin:/usr/sbin:/sbin";
/** The descriptor of the image in debugfs. */
const IMAGE_FD = 3;
const LINKS_MAX = 8;

const TYPES: Readonly<Record<string, DirectoryEntry["type"]>> = {
  "10": "file",
  "04": "directory",
  "12": "link",
};

export function isPlain(path: string): boolean {
  return PLAIN.test(path) && !path.split("/").some((part) => part === "." || part === "..");
}

/** Paths are without a slash in front: `boot/vmlinuz`. */
export class ExtFileSystem {
  readonly #image: FileHandle;
  readonly #offset: number;
  readonly #listings = new Map<string, Promise<DirectoryEntry[]>>();

  constructor(image: FileHandle, offset: number) {
    this.#image = image;
    this.#offset = offset;
  }

  /** Entries with plain names; empty where there is no such directory. Each is read once. */
  list(directory: string): Promise<DirectoryEntry[]> {
    let entries = this.#listings.get(directory);
    if (entries === undefined) {
      entries = this.#list(directory);
      this.#listings.set(directory, entries);
    }
    return entries;
  }

  async #list(directory: string): Promise<DirectoryEntry[]> {
    const text = await this.#text(`ls -p /${checked(directory)}`);
    return text.split("\n").flatMap((line): DirectoryEntry[] => {
      // /inode/mode/uid/gid/name/size/
      const fields = line.split("/");
      const [, , mode = "", , , name = "", size = ""] = fields;
      if (fields.length !== 8 || !/^\d{6}$/.test(mode) || !isPlain(name)) {
        return [];
      }
      return [{ name, type: TYPES[mode.slice(0, 2)] ?? "other", bytes: Number(size) }];
    });
  }

  /** Where a symbolic link points, as it is written; undefined where it is none, or its target is not plain. */
  async readLink(path: string): Promise<string | undefined> {
    const text = await this.#text(`stat /${checked(path)}`);
    return /^Fast link dest: "([\w.+~@/-]+)"$/m.exec(text)?.[1];
  }

  /** The file that a path leads to through symbolic links, or undefined. */
  async resolve(path: string): Promise<{ path: string; bytes: number } | undefined> {
    let at = path;
    for (let links = 0; links < LINKS_MAX && isPlain(at); links++) {
      const slash = at.lastIndexOf("/");
      const directory = slash < 0 ? "" : at.slice(0, slash);
      const entry = (await this.list(directory)).find(({ name }) => name === at.slice(slash + 1));
      if (entry?.type === "file") {
        return { path: at, bytes: entry.bytes };
      }
      const target = entry?.type === "link" ? await this.readLink(at) : undefined;
      if (target === undefined) {
        return undefined;
      }
      at = target.startsWith("/") ? target.slice(1) : normalized(directory, target);
    }
    return undefined;
  }

  /** The content of a small text file; empty where there is none. */
  async readText(path: string): Promise<string> {
    return this.#text(`cat /${checked(path)}`);
  }

  /** Copy a file. @param see is shown all of it. @returns how many bytes it had, E_BAD_IMAGE for more than `max` */
  async copy(path: string, to: FileHandle, max: number, see: (chunk: Buffer) => void): Promise<number> {
    let written = 0;
    await this.#run(`cat /${checked(path)}`, max, async (chunk) => {
      await to.appendFile(chunk);
      see(chunk);
      written += chunk.length;
    });
    return written;
  }

  async #text(command: string): Promise<string> {
    const parts: Buffer[] = [];
    await this.#run(command, LISTING_MAX, async (chunk) => {
      parts.push(chunk);
    });
    return Buffer.concat(parts).toString("utf8");
  }

  /** One command of debugfs, its output piece by piece. */
  async #run(command: string, max: number, take: (chunk: Buffer) => Promise<void>): Promise<void> {
    // -c: without the allocation bitmaps, which only cost time here.
    const child = spawn(
      "debugfs",
      ["-c", "-R", command, `/proc/self/fd/${IMAGE_FD}?offset=${this.#offset}`],
      {
        stdio: ["ignore", "pipe", "pipe", this.#image.fd],
        env: { PATH: `${process.env.PATH ?? ""}:${SBIN}`, LC_ALL: "C", DEBUGFS_PAGER: "__none__" },
        timeout: LIMIT_MS,
        killSignal: "SIGKILL",
      },
    );
    let errors = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      if (errors.length < 2000) errors += chunk.toString("latin1");
    });
    const ended = new Promise<{ code: number | null; failure?: NodeJS.ErrnoException }>((resolve) => {
      child.on("error", (failure) => resolve({ code: null, failure }));
      child.on("close", (code) => resolve({ code }));
    });
    try {
      let bytes = 0;
      for await (const chunk of child.stdout ?? []) {
        bytes += (chunk as Buffer).length;
        if (bytes > max) {
          throw new VmmError(
            "E_BAD_IMAGE",
            `${command.split(" ")[1]} in the image is larger than ${max} bytes`,
            {
              hint: "give --kernel and --initrd",
            },
          );
        }
        await take(chunk as Buffer);
      }
    } finally {
      child.kill("SIGKILL");
    }
    const { code, failure } = await ended;
    if (failure !== undefined) {
      throw noDebugfs(failure);
    }
    if (code !== 0) {
      throw unreadable(code === null ? "debugfs crashed, or did not end" : lastLine(errors));
    }
  }
}

function checked(path: string): string {
  if (path !== "" && !isPlain(path)) {
    throw new VmmError("E_BAD_IMAGE", `the image names a file ${JSON.stringify(path)}`, {
      hint: "give --kernel and --initrd",
    });
  }
  return path;
}

/** `..` goes up from the link's directory, but not beyond the root. */
function normalized(directory: string, target: string): string {
  const parts = directory === "" ? [] : directory.split("/");
  for (const part of target.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}

function lastLine(text: string): string {
  const lines = text.split("\n").filter((line) => line !== "" && !/^debugfs \d/.test(line));
  return lines[0] ?? "debugfs failed";
}

function noDebugfs(cause: NodeJS.ErrnoException): VmmError {
  return new VmmError("E_UNSUPPORTED", `the disk's own kernel is read by debugfs, which cannot be started`, {
    hint: "apt-get install e2fsprogs, or give --kernel and --initrd",
    errno: cause.code,
    cause,
  });
}

function unreadable(why: string): VmmError {
  return new VmmError("E_BAD_IMAGE", `the file system of the image cannot be read: ${why}`, {
    hint: "check it with e2fsck, or give --kernel and --initrd",
  });
}
