// SPDX-License-Identifier: Apache-2.0
/** Short names that differ: below the front end too, hence elsewhere. */
export * from "../../state/unique.js";
