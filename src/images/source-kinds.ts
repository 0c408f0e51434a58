// SPDX-License-Identifier: Apache-2.0
/** What can be imported. */
export const SOURCE_KINDS = ["raw", "qcow2", "oci"] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];
