/** A list of host files for an image: paths as on the host, with all directories and links on the way to them. */
import { createHash } from "node:crypto";
import { lstat, readdir, readlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** Decides by path whether a file or directory found while walking is left out. */
export type Exclude = (path: string) => boolean;

/** As the kernel: more links than this in one path are a loop. */
const MAX_LINKS = 40;

export class FileList {
  /** Path to what identifies its present content. */
  readonly #entries = new Map<string, string>();
  #bytes = 0;

  get size(): number {
    return this.#entries.size;
  }

  /** Total length of the regular files. */
  get bytes(): number {
    return this.#bytes;
  }

  has(path: string): boolean {
    return this.#entries.has(path);
  }

  paths(): string[] {
    return [...this.#entries.keys()].sort();
  }

  /** Changes whenever a listed file changes its length, time of change, mode or target. */
  hash(): string {
    const hash = createHash("sha256");
    for (const path of this.paths()) hash.update(`${path}\0${this.#entries.get(path)}\0`);
    return hash.digest("hex").slice(0, 16);
  }

  /**
   * Adds a path and what it takes to reach it: parent directories, and for each link on the way the link and its
   * target. A directory is added without its contents. A path that does not exist is ignored. Returns the real path.
   */
  async add(path: string): Promise<string | undefined> {
    let links = 0;
    let todo = path.split("/").filter(Boolean);
    let real = "/";
    while (todo.length > 0) {
      const [name = "", ...rest] = todo;
      if (name === "." || name === "..") {
        real = resolve(real, name);
        todo = rest;
        continue;
      }
      const current = join(real, name);
      const target = await this.#insert(current);
      if (target === undefined) return undefined;
      if (target === null) {
        real = current;
        todo = rest;
        continue;
      }
      if (++links > MAX_LINKS) return undefined;
      if (target.startsWith("/")) real = "/";
      todo = [...target.split("/").filter(Boolean), ...rest];
    }
    return real;
  }

  /** Adds a directory with all below it that is not excluded. Links are added as links, not followed. */
  async addTree(path: string, exclude: Exclude = () => false): Promise<void> {
    const real = await this.add(path);
    if (real !== undefined) await this.#walk(real, exclude);
  }

  async #walk(directory: string, exclude: Exclude): Promise<void> {
    const children = await readdir(directory, { withFileTypes: true }).catch(() => []);
    for (const child of children) {
      const path = join(directory, child.name);
      if (exclude(path)) continue;
      if (!child.isFile() && !child.isDirectory() && !child.isSymbolicLink()) continue; // sockets, devices
      await this.#insert(path);
      if (child.isDirectory()) await this.#walk(path, exclude);
    }
  }

  /** Adds one entry. Returns a link's target, null for anything else, undefined if there is nothing. */
  async #insert(path: string): Promise<string | null | undefined> {
    const info = await lstat(path, { bigint: true }).catch(() => undefined);
    if (!info) return undefined;
    const known = this.#entries.has(path);
    if (info.isSymbolicLink()) {
      const target = await readlink(path);
      this.#entries.set(path, `l${target}`);
      return target;
    }
    if (info.isDirectory()) {
      this.#entries.set(path, `d${info.mode}`);
      return null;
    }
    this.#entries.set(path, `f${info.mode} ${info.size} ${info.mtimeNs} ${info.ino}`);
    if (!known) this.#bytes += Number(info.size);
    return null;
  }
}

/** The closest directory at or above `path` that holds one of `names`; undefined if none does. */
export async function findUp(path: string, names: readonly string[]): Promise<string | undefined> {
  for (let directory = path; ; directory = dirname(directory)) {
    for (const name of names) {
      if (await lstat(join(directory, name)).catch(() => undefined)) return directory;
    }
    if (directory === dirname(directory)) return undefined;
  }
}
