// SPDX-License-Identifier: Apache-2.0
/** Tiny guests for the tests of src/kvm: 16-bit real mode, code given as hex with comments after `;`. */
import { readdirSync, readFileSync } from "node:fs";
import { type Exit, Kvm, type MemorySlot, setupRealMode, type Vcpu, type Vm } from "../../src/kvm/index.js";

export const ENTRY = 0x1000;
export const STACK = 0x8000;

/** "b0 41 ; mov al, 'A'" → bytes */
export function hex(code: string): Buffer {
  return Buffer.from(code.replace(/;.*|\s/g, ""), "hex");
}

export interface Guest {
  readonly kvm: Kvm;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly ram: MemorySlot;
}

export interface GuestOptions {
  /** Bytes of RAM from 0; default 64 KiB. */
  readonly ram?: number;
  readonly irqchip?: boolean;
  readonly logDirty?: boolean;
}

/** Make a guest, give it to `use`, close everything. */
export function withGuest<T>(code: string, use: (guest: Guest) => T, options: GuestOptions = {}): T {
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  const close = () => {
    vm.close();
    kvm.close();
  };
  let result: T;
  try {
    if (options.irqchip === true) {
      vm.createIrqchip();
    }
    const ram = vm.addMemory({ gpa: 0, size: options.ram ?? 0x10000, logDirty: options.logDirty === true });
    ram.bytes.set(hex(code), ENTRY);
    const vcpu = vm.createVcpu(0);
    vcpu.setCpuid(kvm.supportedCpuid());
    setupRealMode(vcpu, { entry: ENTRY, stack: STACK });
    result = use({ kvm, vm, vcpu, ram });
  } catch (error) {
    close();
    throw error;
  }
  if (result instanceof Promise) {
    return result.finally(close) as T;
  }
  close();
  return result;
}

/** Run until `reason` (or `limit` exits); gives all exits, that one last. */
export function runUntil(vcpu: Vcpu, reason: Exit["reason"], limit = 1000): Exit[] {
  const exits: Exit[] = [];
  while (exits.length < limit) {
    const exit = vcpu.run();
    exits.push(exit);
    if (exit.reason === reason) {
      return exits;
    }
  }
  throw new Error(`no ${reason} in ${limit} exits; the last was ${JSON.stringify(exits.at(-1)?.reason)}`);
}

/** The exit, if it has the reason that is expected; else an error that says what it was. */
export function expectExit<R extends Exit["reason"]>(exit: Exit, reason: R): Extract<Exit, { reason: R }> {
  if (exit.reason !== reason) {
    throw new Error(
      `expected exit ${reason}, got ${JSON.stringify(exit, (_, v) => (typeof v === "bigint" ? `0x${v.toString(16)}` : v))}`,
    );
  }
  return exit as Extract<Exit, { reason: R }>;
}

/** Open descriptors of this process that have to do with KVM, and its mappings of kvm_run and guest RAM. */
export function kvmResources(): { fds: number; mappings: number } {
  return {
    fds: readdirSync("/proc/self/fd").length,
    mappings: readFileSync("/proc/self/maps", "utf8")
      .split("\n")
      .filter((line) => /kvm|eventfd|memfd/.test(line)).length,
  };
}
