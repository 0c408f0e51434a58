// SPDX-License-Identifier: Apache-2.0
/**
 * Raw KVM from TypeScript, for prototyping hypervisors. docs/reference/kvm.md is the reference,
 * examples/tiny-hypervisor.ts a complete hypervisor.
 *
 *     const vm = Kvm.open().createVm();
 *     vm.addMemory({ gpa: 0n, size: 1 << 20 });
 *     vm.write(0x1000, [0xb0, 0x21, 0xe6, 0x10, 0xf4]); // mov al,'!'; out 0x10,al; hlt
 *     const vcpu = vm.createVcpu(0);
 *     setupRealMode(vcpu, { entry: 0x1000 });
 *     for (let exit = vcpu.run(); exit.reason !== 'hlt'; exit = vcpu.run()) console.log(exit);
 *     vm.close();
 */
export { ArgumentError, ClosedError, KvmError, LibraryError, V3mError } from "../errors.js";
export { Backing } from "../ffi/layouts.js";
export { NativeMemory, type SharedMemory, VIEW_MAX } from "../ffi/native-memory.js";
export * from "./constants.js";
export { EventFd } from "./eventfd.js";
export * from "./exits.js";
export type { SharedHandle } from "./handle.js";
export type { IoEventFdOptions, Msi, Registration, Route } from "./interrupts.js";
export * as ioctl from "./ioctl.js";
export { Kvm } from "./kvm.js";
export { MemorySlot, pagesOf } from "./memory-slot.js";
export * from "./setup.js";
export type { KvmStats, StatValue } from "./stats.js";
export type {
  ClockData,
  CpuidEntry,
  DebugRegs,
  Dtable,
  Fpu,
  IoapicState,
  PicState,
  Regs,
  Segment,
  Sregs,
  VcpuEvents,
} from "./structs.js";
export { type SharedVcpu, Vcpu } from "./vcpu.js";
export type { Change, GuestDebugOptions, Translation } from "./vcpu-state.js";
export { type MemoryOptions, Vm } from "./vm.js";
