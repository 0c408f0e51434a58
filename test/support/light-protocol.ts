// SPDX-License-Identifier: Apache-2.0
/** What the worker of the light runner tells its supervisor. */
import type { TestRecord } from "./reporter-results.js";

export type LightMessage =
  /** A file was loaded; these are its tests. */
  | { readonly type: "collected"; readonly file: string; readonly names: readonly string[] }
  /** A test or a hook may take so long from now on, milliseconds. */
  | { readonly type: "busy"; readonly what: string; readonly limitMs: number }
  | { readonly type: "test"; readonly record: TestRecord }
  /** All of a file is over, with what failed outside its tests. */
  | { readonly type: "file"; readonly file: string; readonly errors: readonly string[] };
