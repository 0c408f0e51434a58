// SPDX-License-Identifier: Apache-2.0
/** Locks between commands: below the front end too, hence elsewhere. */
export * from "../../state/lock.js";
