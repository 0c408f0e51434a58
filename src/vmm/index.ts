// SPDX-License-Identifier: Apache-2.0
/**
 * A whole machine from TypeScript:
 *
 *     await using machine = await Machine.create({ kernel: '/boot/vmlinuz', cmdline: 'console=ttyS0' });
 *     machine.console.pipe(process.stdout);
 *     machine.start();
 *     const { cause } = await machine.wait();      // 'poweroff'
 */
export { type DiskBoot, type DiskBootOptions, diskBoot } from "../disk/index.js";
export * from "../errors.js";
export * from "./backend.js";
export {
  Channel,
  type ChannelOptions,
  type DirectoryChannelPlace,
  type OwnChannelPlace,
  type ShmOptions,
} from "./channel.js";
export * from "./device.js";
export {
  Balloon,
  type BalloonState,
  type DeviceOptions,
  type DiskOptions,
  type HvcOptions,
  type Link,
  type LinkNet,
  type NetOptions,
  openLink,
  type PmemOptions,
  type StreamNet,
  type TapNet,
  type UserNet,
} from "./devices.js";
export * from "./footprint.js";
export { type CloneOptions, ForkPoint } from "./fork.js";
export { type GdbOptions, GdbServer, gdbEndpoint } from "./gdb.js";
export * from "./guest-memory.js";
export { hostFacts, type Virtualization, virtualization } from "./host.js";
export * from "./machine.js";
export * from "./module.js";
export type { MachineModules, ModuleHandle, ModuleInfo, ModuleStateName } from "./modules.js";
export {
  JAIL_PARTS,
  type JailPart,
  type MonitorInfo,
  type MonitorOptions,
  type MonitorStatus,
  monitorStatus,
  readConsoleHistory,
} from "./monitor.js";
export * from "./options.js";
export { type Passt, type PasstOptions, type PortForward, startPasst } from "./passt.js";
export type { GuestNode, PerformanceOptions, UnexitedInstruction } from "./performance.js";
export {
  compressSnapshot,
  type RestoreOptions,
  readSnapshot,
  type SnapshotInfo,
  type SnapshotOptions,
  verifySnapshot,
} from "./snapshot.js";
export * from "./stats.js";
export * from "./stop-info.js";
export { type UnpackOptions, unpackKernel } from "./unpack.js";
export { checkVfio, type PciFunction, pciFunction, type VfioOptions } from "./vfio.js";
