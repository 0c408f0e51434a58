// SPDX-License-Identifier: Apache-2.0
/**
 * The one place where TypeScript meets libvmmhpc. Usage:
 *
 *     import { Backing, NativeMemory, native, Space } from '../ffi/index.js';
 *
 *     const vm = native.create({ cpus: 1, memory: [{ bytes: 64n << 20n, backing: Backing.THP }] });
 *     native.load(vm, { kernel: '/boot/vmlinuz', cmdline: 'console=ttyS0' });
 *     const pointer = native.registerHandler((opaque, vcpu, offset, bytes, direction, value) => 0);
 *     const id = native.deviceAdd(vm, Space.PIO, 0x510n, 4n, pointer);
 *     native.start(vm);
 *     await native.waitAsync(vm);                 // .pauseAsync, .destroyAsync, .deviceRemoveAsync
 *     native.getStopInfo(vm).text;                // plain objects; 64-bit fields are bigint
 *     await native.destroyAsync(vm);              // views must be revoked before: NativeMemory.borrow
 *     native.unregisterHandler(pointer);
 *
 * Every failure is a VmmError with `code` ('E_RANGE' …), `hint`, `errno` and `value`. The C functions as
 * they are (status codes, `.async(…, callback)`) are `native.machine.*` and `raw.*`. Guest memory as views:
 *
 *     const [slot] = native.slots(vm);
 *     const ram = NativeMemory.borrow(slot.host, slot.bytes, 'guest RAM');
 *     ram.bytes[0x1000] = 0xf4;                   // Uint8Array, zero copy; ram.view is a DataView
 *     ram.close();                                // before destroy: every view is detached and says so
 */
export * from "../errors.js";
export * as devices from "./devices.js";
export * from "./layouts.js";
export { library, libraryPath, packageRoot } from "./library.js";
export * as native from "./machine.js";
export * from "./native-memory.js";
export { check as checkRaw, raw } from "./raw.js";
export * as ctypes from "./struct.js";
