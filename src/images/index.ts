// SPDX-License-Identifier: Apache-2.0
/** Disk images by name, in a store that knows them by their content. */
export * from "../errors.js";
export { ImageError } from "./errors.js";
export { type CloneKind, Images, type ImportOptions, type MakeOptions } from "./images.js";
export { SOURCE_KINDS, type SourceKind } from "./source-kinds.js";
export {
  type Collected,
  IMAGE_NAME,
  IMAGE_NAME_HELP,
  ImageStore,
  type ImageStoreOptions,
  type WithUsed,
  Work,
} from "./store.js";
export * from "./types.js";
export type { Finding } from "./verify.js";
