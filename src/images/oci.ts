// SPDX-License-Identifier: Apache-2.0
/**
 * OCI images as disks: umoci unpacks the layers of a layout (and checks their digests), mke2fs makes a file system of
 * the files. An archive of a layout is unpacked by skopeo first. There is no kernel in most of them: boot one of the
 * host's, with root=/dev/vda.
 */
import { createHash } from "node:crypto";
import { mkdir, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { digestOf, syncFile } from "./content.js";
import { ImageError } from "./errors.js";
import { makeFileSystem } from "./ext4.js";
import { uuidOf } from "./ids.js";
import type { ImportOptions } from "./images.js";
import type { Imported } from "./import.js";
import { provenance } from "./provenance.js";
import type { Work } from "./store.js";
import { runTool, TOOLS, toolVersions } from "./tools.js";
import type { Digest, Input, Layer } from "./types.js";

const MIB = 1 << 20;
const INDEX_MAX = 4 << 20;
const REFERENCE = "org.opencontainers.image.ref.name";
const DIGEST = /^sha256:[0-9a-f]{64}$/;

interface Descriptor {
  readonly digest: string;
  readonly size: number;
  readonly mediaType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

function bad(from: string, why: string, cause?: unknown): ImageError {
  return new ImageError("E_BAD_IMAGE", `${from}: ${why}`, {
    hint: "give the directory of an OCI image layout, or an archive of one",
    cause,
  });
}

async function json(path: string, from: string): Promise<{ value: Record<string, unknown>; digest: Digest }> {
  const { size } = await stat(path).catch((cause) => {
    throw bad(from, "no OCI image layout: files are missing", cause);
  });
  if (size > INDEX_MAX) throw bad(from, "an index of more than 4 MiB");
  const text = await readFile(path);
  try {
    const value = JSON.parse(text.toString("utf8")) as Record<string, unknown>;
    return { value, digest: `sha256:${createHash("sha256").update(text).digest("hex")}` };
  } catch (cause) {
    throw bad(from, "its index is damaged", cause);
  }
}

function descriptors(value: unknown, from: string): Descriptor[] {
  const list = Array.isArray(value) ? (value as Descriptor[]) : [];
  if (!list.every((one) => typeof one?.digest === "string" && DIGEST.test(one.digest))) {
    throw bad(from, "its index is damaged");
  }
  return list;
}

/** The name of the image to take. */
function choose(
  all: readonly Descriptor[],
  wanted: string | undefined,
  from: string,
): Descriptor & { tag: string } {
  const named = all.flatMap((one) => {
    const tag = one.annotations?.[REFERENCE];
    return tag === undefined ? [] : [{ ...one, tag }];
  });
  const tags = named.map(({ tag }) => tag);
  const tag = wanted ?? (named.length === 1 ? tags[0] : "latest");
  const found = named.find((one) => one.tag === tag);
  if (found !== undefined) return found;
  const hint = tags.length === 0 ? "give it a name: umoci tag" : `--reference: one of ${tags.join(", ")}`;
  throw new ImageError("E_BAD_IMAGE", `${from}: there is no image ${tag} in it`, { hint });
}

/** Manifest and layers of an image, checked by umoci when it unpacks them. */
async function inputsOf(layout: string, image: Descriptor, from: string): Promise<Input[]> {
  const blob = join(layout, "blobs", image.digest.replace(":", "/"));
  const { value, digest } = await json(blob, from);
  if (digest !== image.digest) throw bad(from, "the manifest's digest is not the one in the index");
  const layers = descriptors(value.layers, from);
  if (layers.length === 0) throw bad(from, "an index of several platforms, or an image without layers");
  return [
    { name: "manifest", digest, bytes: image.size },
    ...layers.map((one, i) => ({
      name: `layer ${i + 1}`,
      digest: one.digest as Digest,
      bytes: one.size,
    })),
  ];
}

/** The directory of the layout: the source itself, or what skopeo makes of an archive. */
async function layoutOf(from: string, work: Work, options: ImportOptions): Promise<string> {
  if ((await stat(from)).isDirectory()) return from;
  const directory = work.path("layout");
  const reference = options.reference === undefined ? "" : `:${options.reference}`;
  try {
    // The archive may have been made elsewhere: there is no policy about its signature.
    const args = ["--insecure-policy", "copy", "--quiet", "--preserve-digests", "--tmpdir", work.directory];
    const to = `oci:${directory}:${options.reference ?? "latest"}`;
    await runTool(TOOLS.skopeo, [...args, `oci-archive:${from}${reference}`, to], options);
  } catch (error) {
    if (error instanceof ImageError && error.code === "E_IO" && error.errno === undefined) {
      throw bad(from, error.message, error);
    }
    throw error;
  }
  return directory;
}

/** KiB that files take. */
async function usedBytes(tree: string, options: ImportOptions): Promise<number> {
  const text = await runTool("du", ["-sk", tree], { signal: options.signal, asRoot: true });
  return Number(/^\d+/.exec(text)?.[0] ?? 0) * 1024;
}

/** @throws ImageError E_BAD_IMAGE, E_UNSUPPORTED, E_IO; AbortedError */
export async function importOci(
  from: string,
  to: string,
  work: Work,
  options: ImportOptions,
): Promise<Imported> {
  const { signal, onProgress } = options;
  onProgress?.({ what: `unpacking ${from}`, done: 0, total: 3 });
  const layout = await layoutOf(from, work, options);
  const { value } = await json(join(layout, "index.json"), from);
  const image = choose(descriptors(value.manifests, from), options.reference, from);
  const inputs = await inputsOf(layout, image, from);
  const bundle = work.path("bundle");
  await mkdir(work.path("home"));
  try {
    const source = ["--image", `${layout}:${image.tag}`, bundle];
    await runTool(TOOLS.umoci, ["unpack", ...source], {
      signal,
      asRoot: true,
      env: { HOME: work.path("home") },
    });
  } catch (error) {
    if (error instanceof ImageError && error.code === "E_IO" && error.errno === undefined) {
      throw bad(from, error.message, error);
    }
    throw error;
  }
  onProgress?.({ what: `making a file system of ${from}`, done: 1, total: 3 });
  const tree = join(bundle, "rootfs");
  const needed = Math.ceil((await usedBytes(tree, options)) * 1.5) + 64 * MIB;
  const bytes = options.size ?? Math.ceil(needed / MIB) * MIB;
  const disk = await open(to, "wx", 0o600);
  try {
    await disk.truncate(bytes);
  } finally {
    await disk.close();
  }
  const id = uuidOf(image.digest);
  await makeFileSystem({
    from: tree,
    kind: "directory",
    image: to,
    offset: 0,
    bytes,
    label: "root",
    uuid: id,
    hashSeed: id,
    epoch: 0x65920080, // 2024-01-01; any will do, if it is always the same
    work: work.directory,
    signal,
  });
  await syncFile(to);
  onProgress?.({ what: `making a file system of ${from}`, done: 2, total: 3 });
  const copied = await digestOf(to, `digesting ${from}`, options);
  const tools = await toolVersions(TOOLS.umoci, TOOLS.mke2fs);
  const layer: Layer = {
    format: "raw",
    ...copied,
    provenance: provenance(`${from}:${image.tag}`, { tools, inputs }),
  };
  return { digest: copied.digest, layers: [layer] };
}
