// SPDX-License-Identifier: Apache-2.0
/**
 * Instructions from power-on to an application's `main`, counted one by one (KVM_GUESTDBG_SINGLESTEP). The
 * machine is libvmmhpc's, loaded as for a launch; its vCPU is run from here by src/kvm, without the server:
 * system calls that are shipped before `main` are answered with ENOENT.
 */
import { readdirSync, readlinkSync } from "node:fs";
import koffi from "koffi";
import { errnoName, V3mError } from "../errors.js";
import { Flag } from "../ffi/layouts.js";
import type { Bound } from "../ffi/library.js";
import * as native from "../ffi/machine.js";
import { NativeMemory } from "../ffi/native-memory.js";
import { getValue, type IoExit, setValue } from "../kvm/exits.js";
import { Handle } from "../kvm/handle.js";
import { Kvm } from "../kvm/kvm.js";
import { Vcpu } from "../kvm/vcpu.js";
import { GuestMemory } from "../vmm/guest-memory.js";
import { nativeBoot, nativeConfig } from "../vmm/options.js";
import { readApplication } from "./application.js";
import { codeSymbols, type ElfInfo } from "./elf.js";
import { checkHost } from "./launch.js";
import { type LaunchOptions, planLaunch } from "./launch-options.js";
import * as L from "./layouts.js";

export interface CountOptions extends Omit<LaunchOptions, "cpus" | "stdio" | "timeoutMs"> {
  /** Function of the application at which to stop. Default `main`. */
  readonly until?: string;
  /** Give up after so many steps. Default 20 million. */
  readonly maxSteps?: number;
}

export interface InstructionCounts {
  /** From power-on to the kernel's announcement of the application's first instruction; undefined: not reached. */
  readonly toApplication: number | undefined;
  /** From power-on to the function; undefined: not reached. */
  readonly toFunction: number | undefined;
  /** Instructions that were counted in all. */
  readonly counted: number;
  /** Single steps: more than instructions, as a string instruction may take several. */
  readonly steps: number;
  /** Why it stopped, if not at the function. */
  readonly stopped: string | undefined;
}

const IA32_LSTAR = 0xc000_0082;
/** One instruction is at most this long: a longer way was a jump. */
const LONGEST_INSTRUCTION = 15n;
/** OUT 0xF1, AL: comes out of the guest at its entry for system calls. */
const TRAP = [0xe6, 0xf1] as const;
const TRAP_PORT = 0xf1;
const PAGE = 4096n;
const FLAG_DF = 0x400n;
const PTE_PRESENT = 1n;
const PTE_LARGE = 0x80n;
const ADDRESS_BITS = 0x000f_ffff_ffff_f000n;
const ENOENT = -2n;
const WRITE = 1;
const DEFAULT_MAX_STEPS = 20_000_000;

let dup: Bound<(fd: number) => number> | undefined;

function duplicate(fd: number, label: string): Handle {
  dup ??= koffi.load(null).func("dup", "int", ["int"]);
  const copy = dup(fd);
  if (copy < 0) {
    throw new V3mError("E_SYSCALL", `cannot duplicate ${label}: ${errnoName(koffi.errno())}`);
  }
  return Handle.own(copy, label);
}

/** Descriptors of this process by what they are. */
function descriptorsOf(what: string): number[] {
  return readdirSync("/proc/self/fd")
    .map(Number)
    .filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === what;
      } catch {
        return false; // the directory's own
      }
    });
}

/** The vCPU of a machine that was just made, for src/kvm. */
function borrowVcpu(vmFd: number, vcpuFd: number): Vcpu {
  const kvm = Kvm.open();
  try {
    using handles = new Handles();
    const vcpu = handles.add(duplicate(vcpuFd, "vCPU 0"));
    const vm = handles.add(duplicate(vmFd, "VM"));
    const memory = NativeMemory.map(vcpuFd, kvm.vcpuMmapSize, 0, "kvm_run of vCPU 0");
    try {
      return Vcpu.attach({
        id: 0,
        vcpu: vcpu.share(),
        vm: vm.share(),
        run: memory.share(),
        runner: new SharedArrayBuffer(4),
      });
    } finally {
      memory.close();
    }
  } finally {
    kvm.close();
  }
}

/** Closes what was added to it. */
class Handles implements Disposable {
  readonly #handles: Handle[] = [];

  add(handle: Handle): Handle {
    this.#handles.push(handle);
    return handle;
  }

  [Symbol.dispose](): void {
    for (const handle of this.#handles) handle.close();
  }
}

/** The yod device, as far as a program needs it before `main`. */
class SilentDevice {
  readonly #memory: GuestMemory;
  #queue: bigint | undefined;
  /** The kernel is about to run the application's first instruction. */
  reachedApplication = false;
  /** The kernel has left its report. */
  ended = false;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  access(exit: IoExit): void {
    if (exit.direction === "in") {
      const register = exit.port - L.YOD_PORT;
      setValue(exit.data, register === L.YOD_REG_MAGIC ? L.YOD_MAGIC : -1n);
      return;
    }
    const value = getValue(exit.data);
    switch (exit.port - L.YOD_PORT) {
      case L.YOD_REG_QUEUE:
        this.#queue = value << 12n;
        break;
      case L.YOD_REG_DOORBELL:
        this.#answer(Number(value));
        break;
      case L.YOD_REG_TRACE:
        this.reachedApplication ||= value === BigInt(L.YOD_TRACE_APP);
        break;
    }
  }

  #answer(index: number): void {
    if (index === L.YOD_DOORBELL_REPORT || this.#queue === undefined || index >= L.YOD_SLOTS) {
      this.ended = true;
      return;
    }
    const at = this.#queue + BigInt((L.YodQueue.offsets.slot ?? 0) + index * L.YodSlot.size);
    const view = this.#memory.view(at, L.YodSlot.size);
    const { call, args } = L.YodSlot.read(view, 0);
    const result = call === WRITE ? (args[2] ?? 0n) : BigInt.asUintN(64, ENOENT);
    L.YodSlot.write(view, 0, { result });
    L.YodSlot.write(view, 0, { state: L.YOD_SLOT_DONE });
  }
}

/** Guest memory by linear address, through the guest's page tables. */
class LinearMemory {
  readonly #vcpu: Vcpu;
  readonly #memory: GuestMemory;

  constructor(vcpu: Vcpu, memory: GuestMemory) {
    this.#vcpu = vcpu;
    this.#memory = memory;
  }

  /** Up to `length` bytes within the page of `address`, or undefined where no RAM is mapped there. */
  at(address: bigint, length: bigint): Uint8Array | undefined {
    const room = PAGE - (address % PAGE);
    try {
      const physical = this.#translate(address);
      return physical === undefined
        ? undefined
        : this.#memory.bytes(physical, Number(length < room ? length : room));
    } catch {
      return undefined; // a device's memory
    }
  }

  /** By hand: KVM_TRANSLATE does not look at pages that SMAP keeps the kernel from. */
  #translate(address: bigint): bigint | undefined {
    let table = this.#vcpu.getSregs().cr3 & ADDRESS_BITS;
    for (let shift = 39n; shift >= 12n; shift -= 9n) {
      const index = (address >> shift) & 0x1ffn;
      const entry = this.#memory.view(table + index * 8n, 8).getBigUint64(0, true);
      if ((entry & PTE_PRESENT) === 0n) {
        return undefined;
      }
      const inside = (1n << shift) - 1n;
      if (shift === 12n || (shift < 39n && (entry & PTE_LARGE) !== 0n)) {
        return (entry & ADDRESS_BITS & ~inside) | (address & inside);
      }
      table = entry & ADDRESS_BITS;
    }
    return undefined;
  }
}

/** A string instruction with a repeat prefix that can be done from outside. */
export interface RepeatedInstruction {
  readonly kind: "stos" | "movs";
  /** Bytes of an element, and of the instruction. */
  readonly element: 1 | 2 | 4 | 8;
  readonly length: number;
}

/** What `code` begins with, if it is REP STOS or REP MOVS with the usual prefixes. */
export function repeatedInstruction(code: Uint8Array): RepeatedInstruction | undefined {
  let at = 0;
  let repeated = false;
  let narrow = false;
  for (; at < code.length; at++) {
    const byte = code[at] ?? 0;
    if (byte === 0xf3) repeated = true;
    else if (byte === 0x66) narrow = true;
    else break;
  }
  const prefix = code[at] ?? 0;
  const rex = (prefix & 0xf0) === 0x40;
  if (rex) at++;
  const opcode = code[at] ?? 0;
  const kind = (opcode & 0xfe) === 0xaa ? "stos" : (opcode & 0xfe) === 0xa4 ? "movs" : undefined;
  if (!repeated || kind === undefined) return undefined;
  const wide = rex && (prefix & 8) !== 0 ? 8 : narrow ? 2 : 4;
  return { kind, element: (opcode & 1) === 0 ? 1 : wide, length: at + 1 };
}

/**
 * Steps a vCPU. Two things are beyond a single step. SYSCALL clears the trap flag: the code that it leads to
 * is patched to come out (neither hardware breakpoints nor INT3 do in QEMU's nested guests). And a string
 * instruction is stepped round by round: what is left after the first is done from here.
 */
class Stepper {
  readonly #vcpu: Vcpu;
  readonly #memory: LinearMemory;
  readonly #device: SilentDevice;
  readonly #elf: ElfInfo;
  readonly #target: bigint;
  #steps = 0;
  #counted = 0;
  #toApplication: number | undefined;
  #bias: bigint | undefined;
  /** Where SYSCALL leads to, and what is there. */
  #entry = 0n;
  #entryCode: readonly number[] = [];

  /** @param target link-time address at which to stop */
  constructor(vcpu: Vcpu, memory: GuestMemory, elf: ElfInfo, target: bigint) {
    this.#vcpu = vcpu;
    this.#memory = new LinearMemory(vcpu, memory);
    this.#device = new SilentDevice(memory);
    this.#elf = elf;
    this.#target = target;
  }

  run(maxSteps: number): InstructionCounts {
    let last = this.#vcpu.getRegs().rip;
    this.#arm(true);
    while (this.#steps < maxSteps) {
      const exit = this.#vcpu.run();
      if (exit.reason === "io" && exit.port === TRAP_PORT && this.#entry !== 0n) {
        this.#enterKernel();
        last = this.#entry;
        continue;
      }
      if (exit.reason === "io") {
        this.#io(exit);
        if (this.#device.ended) return this.#result("the kernel has ended");
        continue; // the instruction is complete with the next exit
      }
      if (exit.reason === "mmio") {
        if (exit.direction === "read") setValue(exit.data, -1n);
        continue;
      }
      if (exit.reason === "intr") continue;
      if (exit.reason !== "debug") return this.#result(`KVM came out with ${exit.reason}`);
      this.#steps += 1;
      let { pc } = exit;
      if (pc === last) pc = this.#finishString(pc);
      if (pc !== last) this.#counted += 1;
      if (this.#atFunction(pc)) return this.#result(undefined);
      if (last === this.#entry) this.#patchEntry(TRAP);
      this.#arm(pc < last || pc > last + LONGEST_INSTRUCTION);
      last = pc;
    }
    return this.#result(`it did not get there in ${maxSteps} steps`);
  }

  #io(exit: IoExit): void {
    const inside = exit.port >= L.YOD_PORT && exit.port < L.YOD_PORT + L.YOD_PORT_BYTES;
    if (inside) {
      this.#device.access(exit);
    } else if (exit.direction === "in") {
      for (let i = 0; i < exit.data.byteLength; i++) exit.data.setUint8(i, 0xff);
    }
    if (this.#device.reachedApplication) this.#toApplication ??= this.#counted;
  }

  /** One step from here on. The trap flag is set again each time: IRET, SYSRET and some others lose it. */
  #arm(jumped: boolean): void {
    if (jumped && this.#entry === 0n) {
      this.#entry = this.#vcpu.getMsr(IA32_LSTAR);
      if (this.#entry !== 0n) {
        this.#entryCode = [...(this.#memory.at(this.#entry, BigInt(TRAP.length)) ?? [])];
        this.#patchEntry(TRAP);
      }
    }
    this.#vcpu.setGuestDebug({ singleStep: true });
  }

  #patchEntry(code: readonly number[]): void {
    this.#memory.at(this.#entry, BigInt(code.length))?.set(code);
  }

  /** SYSCALL was executed: let what it leads to be stepped. */
  #enterKernel(): void {
    this.#steps += 1;
    this.#counted += 1;
    this.#vcpu.completeIo();
    this.#patchEntry(this.#entryCode);
    this.#vcpu.setRegs({ rip: this.#entry });
    this.#vcpu.setGuestDebug({ singleStep: true });
  }

  /** Do what is left of the string instruction at `pc`. @returns where the guest is then */
  #finishString(pc: bigint): bigint {
    const regs = this.#vcpu.getRegs();
    const code = this.#memory.at(pc, LONGEST_INSTRUCTION);
    const found = code === undefined ? undefined : repeatedInstruction(code);
    if (found === undefined || (regs.rflags & FLAG_DF) !== 0n) {
      return pc;
    }
    let { rcx, rdi, rsi } = regs;
    const size = BigInt(found.element);
    const pattern = Buffer.alloc(8);
    pattern.writeBigUInt64LE(regs.rax);
    while (rcx > 0n) {
      const target = this.#memory.at(rdi, rcx * size);
      const source = found.kind === "movs" ? this.#memory.at(rsi, rcx * size) : target;
      if (target === undefined || source === undefined) break;
      const bytes = Math.min(target.length, source.length) & -found.element;
      if (bytes === 0) break; // an element across two pages is the guest's
      if (found.kind === "stos")
        Buffer.from(target.buffer, target.byteOffset, bytes).fill(pattern.subarray(0, found.element));
      // Overlapping forward copies repeat what was copied: only the guest does that right.
      else if (rdi > rsi && rdi < rsi + BigInt(bytes)) break;
      else target.set(source.subarray(0, bytes));
      rcx -= BigInt(bytes) / size;
      rdi += BigInt(bytes);
      if (found.kind === "movs") rsi += BigInt(bytes);
    }
    const rip = rcx === 0n ? pc + BigInt(found.length) : pc;
    this.#vcpu.setRegs({ rcx, rdi, rsi, rip });
    return rip;
  }

  #atFunction(pc: bigint): boolean {
    if (this.#toApplication === undefined) {
      return false;
    }
    const { entry, pie } = this.#elf;
    if (this.#bias === undefined) {
      // Position-independent: the first instruction in the application's half with the entry's place in its page.
      const moved = pie ? (pc & 0xfffn) === (entry & 0xfffn) && pc >= entry && pc < 1n << 47n : pc === entry;
      if (moved) this.#bias = pc - entry;
    }
    return this.#bias !== undefined && pc === this.#target + this.#bias;
  }

  #result(stopped: string | undefined): InstructionCounts {
    return {
      toApplication: this.#toApplication,
      toFunction: stopped === undefined ? this.#counted : undefined,
      counted: this.#counted,
      steps: this.#steps,
      stopped,
    };
  }
}

/**
 * Count instructions until an application's `main`. One vCPU; interrupt handlers are not counted. Takes
 * about 250 µs an instruction under emulation.
 * @throws as `launch`; V3mError E_INVALID where the application has no such function
 */
export async function countInstructions(options: CountOptions): Promise<InstructionCounts> {
  const app = typeof options.app === "string" ? await readApplication(options.app, options.cwd) : options.app;
  const until = options.until ?? "main";
  const target = codeSymbols(app.file).find(({ name }) => name === until);
  if (target === undefined) {
    throw new V3mError("E_INVALID", `${app.path} has no function ${until}`, {
      hint: "give a program that is not stripped",
    });
  }
  checkHost(options.kvmPath);
  const plan = planLaunch({ ...options, cpus: 1 }, app);
  const config = nativeConfig(plan.machine);
  const [vmName, vcpuName] = ["anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"];
  const before = new Set([...descriptorsOf(vmName), ...descriptorsOf(vcpuName)]);
  const handle = native.create({ ...config, flags: (config.flags ?? 0) | Flag.EXTERNAL_VCPUS });
  try {
    native.load(handle, nativeBoot(plan.machine, plan.machine.kernel));
    const fresh = (name: string) => descriptorsOf(name).find((fd) => !before.has(fd));
    const [vmFd, vcpuFd] = [fresh(vmName), fresh(vcpuName)];
    if (vmFd === undefined || vcpuFd === undefined) {
      throw new V3mError(
        "E_UNSUPPORTED",
        "the machine's vCPU cannot be found among this process's descriptors",
      );
    }
    const memory = new GuestMemory(handle, {});
    try {
      using vcpu = borrowVcpu(vmFd, vcpuFd);
      return new Stepper(vcpu, memory, app.elf, target.address).run(options.maxSteps ?? DEFAULT_MAX_STEPS);
    } finally {
      memory.close();
    }
  } finally {
    native.destroy(handle);
  }
}
