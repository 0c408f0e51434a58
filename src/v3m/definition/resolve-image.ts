// SPDX-License-Identifier: Apache-2.0
/** Disks that are images of the store, by name. */
import type { Path } from "./document.js";
import type { Problems } from "./problems.js";
import type { DefinitionInput } from "./schema.js";
import type { VmDisk } from "./types.js";

/** What a definition needs to know of an image. */
export interface NamedImage {
  /** Absolute: of an overlay, what it stands on. */
  readonly path: string;
  readonly format: "raw" | "qcow2";
  /** An overlay's own file. */
  readonly overlay?: string;
  /** Nobody may write to it. */
  readonly sealed: boolean;
}

/** Looks an image up. @throws StoreError where its record is damaged */
export type ImageLookup = (name: string) => NamedImage | undefined;

type DiskInput = Exclude<NonNullable<DefinitionInput["disks"]>[number], string>;

/** @returns the parts of a disk that its image decides; nothing for a disk with a path */
export function namedImage(
  disk: DiskInput,
  at: Path,
  images: ImageLookup | undefined,
  problems: Problems,
): Partial<VmDisk> {
  const { image: name } = disk;
  if (name === undefined) {
    if (disk.path === undefined) problems.add(at, "has neither path nor image", "give one of them");
    return {};
  }
  const wrong = (key: string, message: string, hint: string) => problems.add([...at, key], message, hint);
  for (const key of ["path", "format", "size"] as const) {
    if (disk[key] !== undefined)
      wrong(key, "belongs to disks with a path", "leave it out: the image has its own");
  }
  const image = images?.(name);
  if (image === undefined) {
    wrong("image", `no image is called ${name}`, "v2m image list shows the names of all");
    return { image: name };
  }
  const { path, format, overlay, sealed } = image;
  const writable = disk.readOnly !== true && disk.overlay === undefined;
  if (sealed && writable) {
    const hint = `overlay: temporary, readOnly: true, or a clone: v2m image clone ${name} NEW`;
    wrong("image", `${name} is sealed: nobody writes to it`, hint);
  }
  if (overlay !== undefined && !writable) {
    const hint = `name the image that it stands on, or a sealed copy: v2m image convert ${name} NEW`;
    wrong("image", `${name} is an overlay, and takes all writes itself`, hint);
  }
  return { image: name, path, format, ...(overlay === undefined ? {} : { overlay }) };
}
