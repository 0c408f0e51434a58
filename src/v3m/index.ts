// SPDX-License-Identifier: Apache-2.0
/** The V3M front end: definitions, life cycle, back ends by registration. */
export * from "../errors.js";
export * from "../vmm/backend.js";
export { builtinRegistry } from "./builtin.js";
export type { DefineOptions, DefinitionSource } from "./define.js";
export type { DefinitionInput } from "./definition/schema.js";
export * from "./definition/types.js";
export * from "./errors.js";
export type { EventsOptions, FrontEvent } from "./events.js";
export { registerModules } from "./plugins.js";
export { BackendRegistry, type V3mBackend, type V3mBackendFactory, type V3mBackendHost } from "./registry.js";
export { TRANSITIONS, type Transition, type Verb, VM_STATES } from "./states.js";
export type { Directories } from "./store/directories.js";
export { V3m, type V3mOptions, type VmInfo } from "./v3m.js";
