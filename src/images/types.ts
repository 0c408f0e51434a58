// SPDX-License-Identifier: Apache-2.0
/** What is known of an image: where its bytes are, and where they come from. */

/** `raw`; `overlay`: docs/reference/overlay.md; `qcow2`: QEMU's. */
export type ImageFormat = "raw" | "overlay" | "qcow2";

export const IMAGE_FORMATS: readonly ImageFormat[] = ["raw", "overlay", "qcow2"];

/** `sha256:` and 64 hexadecimal digits. */
export type Digest = `sha256:${string}`;

/** A file that went into a layer. */
export interface Input {
  /** A path, or what it is: `layer 1`, `package bash 5.2.15-2+b2`. */
  readonly name: string;
  readonly digest?: Digest;
  readonly bytes?: number;
}

/** Where bytes come from. */
export interface Provenance {
  /** A path, the name of an image, or of a package set. */
  readonly source: string;
  /** The command line that made it, as its user gave it. */
  readonly command: string;
  /** Programs that were run for it, with their versions. */
  readonly tools: Readonly<Record<string, string>>;
  /** ISO 8601. */
  readonly date: string;
  readonly inputs: readonly Input[];
}

/** One layer of an image, the lowest first. */
export interface Layer {
  readonly format: ImageFormat;
  /** Of its content when it was made, for a layer that does not change; absent for one that VMs write to. */
  readonly digest?: Digest;
  /** Bytes of the disk that it is, or was made of. */
  readonly bytes: number;
  readonly provenance: Provenance;
}

export interface ImageRecord {
  readonly name: string;
  readonly format: ImageFormat;
  /** Nobody writes to it: it is known by its digest. Others, clones above all, may stand on it. */
  readonly sealed: boolean;
  /** Below the store's directory. */
  readonly file: string;
  /** The sealed file below an overlay. */
  readonly base?: string;
  /** ISO 8601. */
  readonly created: string;
  readonly layers: readonly Layer[];
}

/** An image, and what can be seen of its files. */
export interface ImageInfo extends ImageRecord {
  /** Absolute. */
  readonly path: string;
  readonly basePath?: string;
  /** Bytes of the disk that a guest sees. */
  readonly size: number;
  /** Bytes that its own file takes on the host's disk. */
  readonly allocated: number;
}

export type ProvenanceStart = Pick<Provenance, "source"> & Partial<Provenance>;
