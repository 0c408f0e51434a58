// SPDX-License-Identifier: Apache-2.0
/** `v2m image`: what its verbs do. */
import { resolve } from "node:path";
import type { CloneKind, Images, MakeOptions } from "../images/images.js";
import type { SourceKind } from "../images/source-kinds.js";
import type { Collected } from "../images/store.js";
import type { ImageInfo, ImageRecord, Layer } from "../images/types.js";
import { parseBytes, SIZE_HELP } from "../v3m/definition/units.js";
import { Exit } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { formatTime, ProgressBar, say, sayJson, sayTable } from "./output.js";
import { formatBytes, UsageError } from "./values.js";

export interface ImageFlags extends FrontFlags {
  readonly force?: boolean;
}

export interface ImportFlags extends ImageFlags {
  readonly from?: SourceKind;
  readonly reference?: string;
  readonly size?: string;
}

export interface ConvertFlags extends ImageFlags {
  readonly to: "raw" | "qcow2";
  readonly output?: string;
}

/** @returns bytes. @throws UsageError */
export function sizeOption(text: string, option = "--size"): number {
  const size = parseBytes(text);
  if (size === undefined || size === 0) throw new UsageError(`${option} ${text}: not a size`, SIZE_HELP);
  return size;
}

/** Exactly one of a name and a file. */
export function nameOrFile(name: string | undefined, output: string | undefined): void {
  if ((name === undefined) === (output === undefined)) {
    throw new UsageError(
      "give either the name of an image or --output FILE",
      "v2m image --help has examples",
    );
  }
}

/** Do something with the images, with a bar and until Ctrl-C. */
async function on<T>(
  flags: ImageFlags,
  work: (images: Images, options: MakeOptions) => Promise<T>,
): Promise<T> {
  const images = await openFront(flags).images();
  using interrupt = new Interrupt();
  using bar = new ProgressBar(flags.json !== true);
  return await work(images, {
    signal: interrupt.signal,
    onProgress: (progress) => bar.show(progress),
    force: flags.force ?? false,
  });
}

/** Make an image, and say what was made. */
export async function made(
  flags: ImageFlags,
  work: (images: Images, options: MakeOptions) => Promise<ImageRecord>,
): Promise<number> {
  const info = await on(flags, async (images, options) => {
    const { name } = await work(images, options);
    return await images.info(name);
  });
  if (flags.json === true) sayJson(info);
  else say(`${info.name}: ${info.format}, ${formatBytes(info.size)}${info.sealed ? ", sealed" : ""}`);
  return Exit.OK;
}

export { create } from "./image-create.js";

export async function importImage(name: string, source: string, flags: ImportFlags): Promise<number> {
  const size = flags.size === undefined ? undefined : sizeOption(flags.size);
  return await made(flags, (images, options) =>
    images.import(name, source, {
      ...options,
      ...(flags.from === undefined ? {} : { kind: flags.from }),
      ...(flags.reference === undefined ? {} : { reference: flags.reference }),
      ...(size === undefined ? {} : { size }),
    }),
  );
}

export async function clone(
  source: string,
  name: string,
  flags: ImageFlags & { readonly as?: CloneKind },
): Promise<number> {
  return await made(flags, (images, options) => images.clone(source, name, flags.as, options));
}

export async function convert(
  source: string,
  name: string | undefined,
  flags: ConvertFlags,
): Promise<number> {
  nameOrFile(name, flags.output);
  if (name !== undefined) {
    return await made(flags, (images, options) => images.convert(source, name, flags.to, options));
  }
  const output = resolve(flags.output ?? "");
  await on(flags, (images, options) => images.export(source, output, flags.to, options));
  if (flags.json === true) sayJson({ image: output, format: flags.to });
  else say(`${output}: made`);
  return Exit.OK;
}

export async function resize(name: string, size: string, flags: ImageFlags): Promise<number> {
  const bytes = sizeOption(size, "size");
  return await made(flags, (images, options) => images.resize(name, bytes, options));
}

export async function list(flags: FrontFlags & { readonly names?: boolean }): Promise<number> {
  const images = await openFront(flags).images();
  const names = images.names();
  if (flags.names === true) {
    if (flags.json === true) sayJson(names);
    else for (const name of names) say(name);
    return Exit.OK;
  }
  const all = await Promise.all(names.map((name) => images.info(name)));
  if (flags.json === true) sayJson(all);
  else sayTable(["NAME", "FORMAT", "SIZE", "ON DISK", "CREATED", "FROM"], all.map(row), "no images");
  return Exit.OK;
}

function row(image: ImageInfo): string[] {
  const { name, format, sealed, size, allocated, created, layers } = image;
  const kind = sealed ? `${format}, sealed` : format;
  const from = layers.at(-1)?.provenance.source ?? "";
  return [name, kind, formatBytes(size), formatBytes(allocated), formatTime(new Date(created)), from];
}

function layerLines({ format, digest, bytes, provenance }: Layer, index: number): string[] {
  const { source, command, tools, date, inputs } = provenance;
  return [
    `layer ${index + 1}: ${format}, ${formatBytes(bytes)}${digest === undefined ? "" : `, ${digest}`}`,
    `  of ${source}, ${formatTime(new Date(date))}`,
    `  by ${command}`,
    `  with ${Object.entries(tools)
      .map((pair) => pair.join(" "))
      .join(", ")}`,
    ...inputs.map((one) => `  from ${one.name}${one.digest === undefined ? "" : `, ${one.digest}`}`),
  ];
}

export async function show(names: readonly string[], flags: FrontFlags): Promise<number> {
  const images = await openFront(flags).images();
  const all = await Promise.all(names.map((name) => images.info(name)));
  if (flags.json === true) {
    sayJson(all);
    return Exit.OK;
  }
  for (const image of all) {
    const kind = `${image.format}${image.sealed ? ", sealed" : ""}, ${formatBytes(image.size)}`;
    say(`${image.name}: ${kind}, ${formatBytes(image.allocated)} on disk`);
    say(image.path);
    for (const line of image.layers.flatMap(layerLines)) say(line);
  }
  return Exit.OK;
}

export async function verify(names: readonly string[], flags: FrontFlags): Promise<number> {
  const findings = await on(flags, (images, options) =>
    images.verify(names.length > 0 ? names : images.names(), options),
  );
  if (flags.json === true) sayJson(findings);
  else {
    for (const { name, problems } of findings) {
      say(
        problems.length === 0 ? `${name}: well` : problems.map((problem) => `${name}: ${problem}`).join("\n"),
      );
    }
  }
  return findings.some(({ problems }) => problems.length > 0) ? Exit.STORE : Exit.OK;
}

function sayCollected({ removed, bytes }: Collected, json: boolean, what: Record<string, unknown>): number {
  if (json) sayJson({ ...what, removed, bytes });
  else say(`${removed.length} ${removed.length === 1 ? "file" : "files"} removed, ${formatBytes(bytes)}`);
  return Exit.OK;
}

export async function remove(names: readonly string[], flags: ImageFlags): Promise<number> {
  const collected = await on(flags, (images, options) => images.delete([...new Set(names)], options));
  return sayCollected(collected, flags.json === true, { deleted: names });
}

export async function collect(flags: FrontFlags): Promise<number> {
  return sayCollected(await on(flags, (images, options) => images.collect(options)), flags.json === true, {});
}
