// SPDX-License-Identifier: Apache-2.0
/**
 * A whole machine from TypeScript:
 *
 *     await using machine = await Machine.create({ kernel: '/boot/vmlinuz', cmdline: 'console=ttyS0' });
 *     machine.console.pipe(process.stdout);
 *     machine.start();
 *     const { cause } = await machine.wait();      // 'poweroff'
 */
export * from "../errors.js";
export * from "./backend.js";
export * from "./device.js";
export * from "./footprint.js";
export * from "./guest-memory.js";
export { hostFacts, type Virtualization, virtualization } from "./host.js";
export * from "./machine.js";
export * from "./options.js";
export * from "./stats.js";
export * from "./stop-info.js";
export { type UnpackOptions, unpackKernel } from "./unpack.js";
