// SPDX-License-Identifier: Apache-2.0
/** Whole files: below the front end too, hence elsewhere. */
export * from "../../state/files.js";
