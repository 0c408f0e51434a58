// SPDX-License-Identifier: Apache-2.0
/** Programs that outlive the command that started them: their channels, their records, their end. */
export * from "./attach.js";
export * from "./end.js";
export * from "./record.js";
export * from "./ring.js";
export * from "./start.js";
