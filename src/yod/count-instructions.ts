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
  /** Stops: more than instructions, as string instructions are stopped at twice. */
  readonly steps: number;
  /** Why it stopped, if not at the function. */
  readonly stopped: string | undefined;
}

const IA32_LSTAR = 0xc000_0082;
/** One instruction is at most this long: a longer way was a jump. */
const LONGEST_INSTRUCTION = 15n;
const INT3 = 0xcc;
const BP_VECTOR = 3;
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

/** An INT3 in the guest's code; hardware breakpoints do not work in QEMU's nested guests. */
class Breakpoint {
  readonly address: bigint;
  readonly #byte: Uint8Array;
  readonly #original: number;

  /** @throws V3mError where nothing is mapped there. */
  constructor(vcpu: Vcpu, memory: GuestMemory, address: bigint) {
    const { valid, physicalAddress } = vcpu.translate(address);
    if (!valid) {
      throw new V3mError("E_RANGE", `there is no code at 0x${address.toString(16)}`, { value: address });
    }
    this.address = address;
    this.#byte = memory.bytes(physicalAddress, 1);
    this.#original = this.#byte[0] ?? 0;
    this.insert();
  }

  insert(): void {
    this.#byte[0] = INT3;
  }

  lift(): void {
    this.#byte[0] = this.#original;
  }
}

/** Length of the string instruction with a repeat prefix that `code` begins with, or undefined. */
export function repeatedInstruction(code: Uint8Array): number | undefined {
  let at = 0;
  let repeated = false;
  for (; at < code.length; at++) {
    const byte = code[at] ?? 0;
    if (byte === 0xf2 || byte === 0xf3) repeated = true;
    else if (byte !== 0x66 && byte !== 0x67) break;
  }
  if (((code[at] ?? 0) & 0xf0) === 0x40) at++; // REX
  const opcode = code[at] ?? 0;
  const string = (opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf);
  return repeated && string ? at + 1 : undefined;
}

/**
 * Steps a vCPU. Two things that a single step does not do: SYSCALL clears the trap flag, so a breakpoint
 * stands where it leads to; and a string instruction is stepped round by round, so the rounds after the
 * second run up to a breakpoint behind it.
 */
class Stepper {
  readonly #vcpu: Vcpu;
  readonly #memory: GuestMemory;
  readonly #device: SilentDevice;
  readonly #elf: ElfInfo;
  readonly #target: bigint;
  #steps = 0;
  #counted = 0;
  #toApplication: number | undefined;
  #bias: bigint | undefined;
  #entry: Breakpoint | undefined;
  #behind: Breakpoint | undefined;

  /** @param target link-time address at which to stop */
  constructor(vcpu: Vcpu, memory: GuestMemory, elf: ElfInfo, target: bigint) {
    this.#vcpu = vcpu;
    this.#memory = memory;
    this.#device = new SilentDevice(memory);
    this.#elf = elf;
    this.#target = target;
  }

  run(maxSteps: number): InstructionCounts {
    let last = this.#vcpu.getRegs().rip;
    this.#arm(true);
    while (this.#steps < maxSteps) {
      const exit = this.#vcpu.run();
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
      const { pc } = exit;
      const going = pc === last && exit.exception !== BP_VECTOR; // a string instruction
      if (!going) this.#counted += 1;
      if (this.#atFunction(pc)) return this.#result(undefined);
      this.#behind?.lift();
      this.#behind = undefined;
      if (pc === this.#entry?.address) this.#entry.lift();
      else this.#entry?.insert();
      if (going) this.#runToEnd(pc);
      else this.#arm(pc < last || pc > last + LONGEST_INSTRUCTION);
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
    if (jumped && this.#entry === undefined) {
      const lstar = this.#vcpu.getMsr(IA32_LSTAR);
      if (lstar !== 0n) this.#entry = new Breakpoint(this.#vcpu, this.#memory, lstar);
    }
    this.#vcpu.setGuestDebug({ singleStep: true, softwareBreakpoints: true });
  }

  /** Let the string instruction at `pc` run to its end. */
  #runToEnd(pc: bigint): void {
    const { valid, physicalAddress } = this.#vcpu.translate(pc);
    const room = Number(0x1000n - (pc & 0xfffn));
    const code = valid
      ? this.#memory.bytes(physicalAddress, Math.min(room, Number(LONGEST_INSTRUCTION)))
      : [];
    const length = repeatedInstruction(Uint8Array.from(code));
    if (length === undefined) {
      this.#arm(false); // a jump to itself
      return;
    }
    this.#behind = new Breakpoint(this.#vcpu, this.#memory, pc + BigInt(length));
    this.#vcpu.setGuestDebug({ softwareBreakpoints: true });
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
