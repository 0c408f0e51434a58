// SPDX-License-Identifier: Apache-2.0
/** The XML profile of 2007: read, validated, and written where a definition can be said in it. */
export { profileDocument } from "./read.js";
export { writeProfile } from "./write.js";
