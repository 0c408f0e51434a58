// SPDX-License-Identifier: Apache-2.0
/** Latency, bandwidth, exits and CPU time of the ways between two guests, beside the floors of the machine. */
export { writeFiles } from "./files.js";
export * from "./names.js";
export * from "./plan.js";
export * from "./result.js";
export { measureNet } from "./run.js";
export { circumstances, HEADING, rows, skipped, verdicts } from "./table.js";
