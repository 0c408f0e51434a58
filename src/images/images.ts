// SPDX-License-Identifier: Apache-2.0
/**
 * Disk images by name: made, imported, cloned, converted, checked. Everything new is made aside and appears whole.
 *
 *     const images = new Images({ directory: "/var/lib/v3m/images" });
 *     await images.import("debian", "debian.qcow2");
 *     await images.clone("debian", "node1");
 */
import { open, rename, rm, stat, truncate } from "node:fs/promises";
import { resolve } from "node:path";
import { throwIfAborted } from "../state/errors.js";
import { syncDirectory } from "../state/files.js";
import { uniqueSuffix } from "../state/unique.js";
import type { OperationOptions } from "../vmm/backend.js";
import {
  busy,
  copyQuiet,
  digestOf,
  inUse,
  openQuiet,
  readerOf,
  SECTOR,
  sizeOf,
  syncFile,
  writeImage,
} from "./content.js";
import { asImageError, ImageError } from "./errors.js";
import { importSource } from "./import.js";
import { OverlayFile } from "./overlay-file.js";
import { provenance } from "./provenance.js";
import { qemuImg } from "./qemu-img.js";
import type { SourceKind } from "./source-kinds.js";
import { type Collected, ImageStore, type ImageStoreOptions, type Work } from "./store.js";
import { TOOLS, toolVersions } from "./tools.js";
import type { ImageFormat, ImageInfo, ImageRecord, Layer } from "./types.js";
import { type Finding, verifyImage } from "./verify.js";

export interface MakeOptions extends OperationOptions {
  /** Take the place of an image of that name. Default: that is an error. */
  readonly force?: boolean;
}

export interface ImportOptions extends MakeOptions {
  /** Default: by what the source looks like. */
  readonly kind?: SourceKind;
  /** OCI: which of the images in the layout. Default: the only one, else `latest`. */
  readonly reference?: string;
  /** OCI: bytes of the file system. Default: as much as the files need, and half of it more. */
  readonly size?: number;
}

/** How a clone holds what it shares with its source. */
export type CloneKind = "overlay" | "qcow2" | "copy";

export class Images {
  readonly store: ImageStore;

  constructor(options: ImageStoreOptions) {
    this.store = new ImageStore(options);
  }

  // --- looking ---

  names(): string[] {
    return this.store.names();
  }

  /** @throws ImageError E_NOT_FOUND, StoreError */
  async info(name: string): Promise<ImageInfo> {
    const record = this.store.get(name);
    const path = this.store.path(record.file);
    const { size, blocks } = await stat(path).catch(() => ({ size: 0, blocks: 0 }));
    return {
      ...record,
      path,
      ...(record.base === undefined ? {} : { basePath: this.store.path(record.base) }),
      size: record.format === "raw" ? size : await this.#virtualSize(record),
      allocated: blocks * 512,
    };
  }

  async #virtualSize({ format, file, base, layers }: ImageRecord): Promise<number> {
    if (format === "overlay") return (await stat(this.store.path(base ?? ""))).size;
    const handle = await open(this.store.path(file), "r").catch(() => undefined);
    if (handle === undefined) return layers.at(-1)?.bytes ?? 0;
    try {
      // The size in a qcow2 header, big-endian at 24.
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(32), 0, 32, 0);
      return bytesRead === 32 ? Number(buffer.readBigUInt64BE(24)) : 0;
    } finally {
      await handle.close();
    }
  }

  // --- making ---

  async #make(
    name: string,
    options: MakeOptions,
    build: (work: Work) => Promise<Made>,
  ): Promise<ImageRecord> {
    this.store.mustBeFree(name, options.force);
    try {
      await using work = await this.store.work(options.signal);
      const { path, digest, ...record } = await build(work);
      return await this.store.add({
        path,
        name,
        record,
        replace: options.force ?? false,
        signal: options.signal,
        ...(digest === undefined ? {} : { digest }),
      });
    } catch (error) {
      throw asImageError(error, `cannot make ${name}`);
    }
  }

  /** An empty disk. @param bytes a multiple of 512 */
  async create(
    name: string,
    bytes: number,
    format: "raw" | "qcow2",
    options: MakeOptions = {},
  ): Promise<ImageRecord> {
    checkSize(bytes);
    return await this.#make(name, options, async (work) => {
      const path = work.path("disk");
      if (format === "raw") await (await open(path, "wx", 0o600)).close();
      if (format === "raw") await truncate(path, bytes);
      else await qemuImg(["create", "-q", "-f", "qcow2", path, String(bytes)], options);
      await syncFile(path);
      const tools = format === "raw" ? {} : await toolVersions(TOOLS.qemuImg);
      return { path, format, layers: [{ format, bytes, provenance: provenance("empty", { tools }) }] };
    });
  }

  /** What another program has made, in a file or a directory; the image is sealed. */
  async import(name: string, from: string, options: ImportOptions = {}): Promise<ImageRecord> {
    return await this.#make(name, options, async (work) => {
      const path = work.path("disk");
      const { layers, digest } = await importSource(resolve(from), path, work, options);
      return { path, digest, format: "raw", layers };
    });
  }

  /** A file that `make` writes becomes a sealed image. @param make gets the path of the file, which is not there */
  async adopt(
    name: string,
    make: (path: string, work: Work) => Promise<Layer["provenance"]>,
    options: MakeOptions = {},
  ): Promise<ImageRecord> {
    return await this.#make(name, options, async (work) => {
      const path = work.path("disk");
      const from = await make(path, work);
      const { digest, bytes } = await digestOf(path, `digesting ${name}`, options);
      await syncFile(path);
      return { path, digest, format: "raw", layers: [{ format: "raw", digest, bytes, provenance: from }] };
    });
  }

  /**
   * A disk that VMs write to, with the content of another image.
   * @param kind default: an overlay of one that is sealed, a copy of others
   */
  async clone(
    source: string,
    name: string,
    kind?: CloneKind,
    options: MakeOptions = {},
  ): Promise<ImageRecord> {
    const from = this.store.get(source);
    const how = kind ?? (from.sealed ? "overlay" : "copy");
    if (how !== "copy" && !from.sealed) {
      throw new ImageError("E_INVALID", `${source} may change: a clone that stands on it would be damaged`, {
        hint: `clone it with --as copy, or seal a copy first: v2m image convert ${source} NAME`,
      });
    }
    return await this.#make(name, options, async (work) => {
      const path = work.path("disk");
      const below = this.store.path(from.file);
      const { size } = await this.info(source);
      const layer = (format: ImageFormat, tools = {}): Layer => ({
        format,
        bytes: size,
        provenance: provenance(source, { tools }),
      });
      if (how === "copy") {
        if (from.sealed) {
          const handle = await open(below, "r");
          try {
            await writeImage(path, readerOf(handle), size, `copying ${source}`, options);
          } finally {
            await handle.close();
          }
        } else await copyQuiet(below, path, source, options);
        const base = from.base === undefined ? {} : { base: from.base };
        return { path, format: from.format, ...base, layers: [...from.layers, layer(from.format)] };
      }
      if (how === "overlay") {
        const { overlayCreate } = await import("../ffi/devices.js"); // loads the native library
        overlayCreate(path, below);
      } else await qemuImg(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", below, path], options);
      await syncFile(path);
      const tools = how === "qcow2" ? await toolVersions(TOOLS.qemuImg) : {};
      return { path, format: how, base: from.file, layers: [...from.layers, layer(how, tools)] };
    });
  }

  /** All of an image in one file. @param to sealed raw, or a qcow2 image of its own */
  async convert(
    source: string,
    name: string,
    to: "raw" | "qcow2",
    options: MakeOptions = {},
  ): Promise<ImageRecord> {
    const from = this.store.get(source);
    return await this.#make(name, options, async (work) => {
      const path = work.path("disk");
      const { digest, bytes } = await this.#flatten(from, path, work, options);
      const tools = from.format === "qcow2" || to === "qcow2" ? await toolVersions(TOOLS.qemuImg) : {};
      const start = provenance(source, { tools });
      if (to === "raw") {
        const layer: Layer = { format: "raw", digest, bytes, provenance: start };
        return { path, digest, format: "raw", layers: [...from.layers, layer] };
      }
      const out = work.path("qcow2");
      await qemuImg(["convert", "-f", "raw", "-O", "qcow2", path, out], options);
      await syncFile(out);
      const layer: Layer = { format: "qcow2", bytes, provenance: start };
      return { path: out, format: "qcow2", layers: [...from.layers, layer] };
    });
  }

  /** Write all of an image to a new file outside of the store. @throws ImageError E_EXISTS */
  async export(source: string, path: string, to: "raw" | "qcow2", options: MakeOptions = {}): Promise<void> {
    const from = this.store.get(source);
    const there = await stat(path).then(
      () => true,
      () => false,
    );
    if (there && options.force !== true) {
      throw new ImageError("E_EXISTS", `${path} is there already`, {
        hint: "choose another name, or --force to replace it",
        errno: "EEXIST",
      });
    }
    const temporary = `${path}.tmp-${uniqueSuffix()}`;
    try {
      await using work = await this.store.work(options.signal);
      const raw = to === "raw" ? temporary : work.path("disk");
      await this.#flatten(from, raw, work, options);
      if (to === "qcow2") await qemuImg(["convert", "-f", "raw", "-O", "qcow2", raw, temporary], options);
      await syncFile(temporary);
      await rename(temporary, path);
      await syncDirectory(resolve(path, ".."));
    } catch (error) {
      throw asImageError(error, `cannot write ${path}`);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  /** The disk that a guest sees, as a raw file. */
  async #flatten(from: ImageRecord, path: string, work: Work, options: OperationOptions) {
    const what = `reading ${from.name}`;
    const own = this.store.path(from.file);
    if (from.format === "qcow2") {
      if (await inUse(own)) throw busy(from.name);
      const raw = work.path("flat");
      await qemuImg(["convert", "-f", "qcow2", "-O", "raw", own, raw], options);
      await rename(raw, path);
      await syncFile(path);
      return await digestOf(path, what, options);
    }
    const file = from.sealed ? await open(own, "r") : await openQuiet(own, from.name);
    try {
      if (from.format === "raw")
        return await writeImage(path, readerOf(file), await sizeOf(file), what, options);
      const base = await open(this.store.path(from.base ?? ""), "r");
      try {
        const overlay = await OverlayFile.open(file, base);
        return await writeImage(path, overlay.read, overlay.diskBytes, what, options);
      } finally {
        await base.close();
      }
    } finally {
      await file.close();
    }
  }

  /**
   * Make a disk larger; with `force` also smaller, which loses what is behind its new end.
   * @param bytes a multiple of 512
   */
  async resize(name: string, bytes: number, options: MakeOptions = {}): Promise<ImageInfo> {
    checkSize(bytes);
    const before = await this.info(name);
    const { path, format } = before;
    if (before.sealed || format === "overlay") {
      const why = before.sealed ? "is sealed" : "is as large as what it stands on";
      const hint = before.sealed ? "a clone can: --as copy" : `convert it: v2m image convert ${name} NEW`;
      throw new ImageError("E_UNSUPPORTED", `${name} ${why}: it cannot be resized`, { hint });
    }
    if (bytes < before.size && options.force !== true) {
      const hint = "first make the file system in it smaller, then --force";
      throw new ImageError(
        "E_INVALID",
        `${name} has ${before.size} bytes: what is behind ${bytes} would be lost`,
        {
          hint,
        },
      );
    }
    throwIfAborted(options.signal, `resizing ${name}`);
    if (format === "raw") {
      if (await inUse(path)) throw busy(name);
      try {
        await truncate(path, bytes);
        await syncFile(path);
      } catch (error) {
        throw asImageError(error, `cannot resize ${name}`);
      }
      return await this.info(name);
    }
    // In a copy: nobody promises what qemu-img leaves when it is killed.
    await this.#make(name, { ...options, force: true }, async (work) => {
      const copy = work.path("disk");
      await copyQuiet(path, copy, name, options);
      const shrink = bytes < before.size ? ["--shrink"] : [];
      await qemuImg(["resize", "-q", "-f", "qcow2", ...shrink, copy, String(bytes)], options);
      await syncFile(copy);
      const { base, layers } = before;
      return { path: copy, format, ...(base === undefined ? {} : { base }), layers };
    });
    return await this.info(name);
  }

  /** @throws ImageError E_NOT_FOUND, E_BUSY (a VM names it, or a machine uses it); then none is gone */
  async delete(names: readonly string[], options: MakeOptions = {}): Promise<Collected> {
    for (const name of names) {
      const { sealed, file } = this.store.get(name);
      const used = !sealed && (await inUse(this.store.path(file)).catch(() => false));
      if (used && options.force !== true) throw busy(name);
    }
    return await this.store.remove(names, {
      force: options.force ?? false,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }

  /** Remove what no image and no VM needs. */
  async collect(options: OperationOptions = {}): Promise<Collected> {
    return await this.store.collect(options.signal);
  }

  /** Compare images with what is known of them. @returns what is wrong, of each image that was looked at */
  async verify(names: readonly string[], options: OperationOptions = {}): Promise<Finding[]> {
    const seen = new Map<string, Promise<string | undefined>>();
    const findings: Finding[] = [];
    for (const name of names) findings.push(await verifyImage(this.store, name, seen, options));
    return findings;
  }
}

type Made = Omit<ImageRecord, "name" | "file" | "created" | "sealed"> & {
  readonly path: string;
  readonly digest?: NonNullable<Layer["digest"]>;
};

function checkSize(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % SECTOR !== 0) {
    throw new ImageError("E_INVALID", `${bytes} bytes are no size of a disk`, {
      hint: `a multiple of ${SECTOR}`,
    });
  }
}
