// SPDX-License-Identifier: Apache-2.0
/**
 * Static Linux programs on the lightweight kernel, each in a virtual machine of its own:
 *
 *     await using launched = await launch({ app: './app', args: ['-n', '4'], cpus: 4 });
 *     const outcome = await launched.wait();       // { kind: 'exit', status: 0, … }
 *
 * docs/reference/yod.md is the reference.
 */
export * from "../errors.js";
export { type Application, findApplication, readApplication } from "./application.js";
export { type CountOptions, countInstructions, type InstructionCounts } from "./count-instructions.js";
export { checkApplication, type ElfInfo } from "./elf.js";
export * from "./errors.js";
export * from "./launch.js";
export { buildLaunchModule, type Environment, type ModuleOptions } from "./launch-module.js";
export { DEFAULT_LAUNCH_MEMORY, defaultRoots, type LaunchOptions } from "./launch-options.js";
export { lightweightKernelPath, yodLibraryPath } from "./library.js";
export {
  type CallCount,
  type CrashReport,
  type Frame,
  formatCrash,
  signalName,
  signalWords,
} from "./report.js";
export type { Root } from "./server.js";
export type { LaunchStatistics } from "./statistics.js";
export { Symbolizer } from "./symbols.js";
export { SYSTEM_CALLS, systemCallName } from "./system-calls.js";
