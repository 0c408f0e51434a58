// SPDX-License-Identifier: Apache-2.0
/** What went wrong when an application faulted, in words: from the exception, its address and the code. */

export interface FaultFacts {
  /** Number of the exception. */
  readonly vector: number;
  readonly errorCode: bigint;
  /** CR2. */
  readonly address: bigint;
  readonly rip: bigint;
  readonly rsp: bigint;
  /** Bytes at RIP. */
  readonly code: Uint8Array;
}

const PRESENT = 1n;
const WRITE = 2n;
const FETCH = 16n;
const NULL_END = 0x1_0000n;
/** The lower end of the kernel's half of the address space. */
const KERNEL_HALF = 0xffff_8000_0000_0000n;
const LOWER_END = 0x0000_8000_0000_0000n;
/** How far from the stack pointer an access still is one to the stack. */
const BELOW_STACK = 0x1_0000n;
const ABOVE_STACK = 0x10_0000n;

const hex = (value: bigint) => `0x${value.toString(16)}`;

/** Exceptions that need no more than a name. */
const EXCEPTIONS: Readonly<Record<number, string>> = {
  1: "debug exception",
  3: "breakpoint (int3)",
  4: "overflow (into)",
  5: "bound range exceeded",
  7: "floating-point unit not available",
  8: "double fault",
  10: "invalid TSS",
  11: "segment not present",
  16: "x87 floating-point exception",
  17: "misaligned access (alignment check is on)",
  18: "machine check",
  19: "SIMD floating-point exception",
  21: "control protection exception",
};

const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
const ONE_BYTE: Readonly<Record<number, string>> = {
  108: "insb",
  109: "ins",
  110: "outsb",
  111: "outs",
  228: "in",
  229: "in",
  230: "out",
  231: "out",
  236: "in",
  237: "in",
  238: "out",
  239: "out",
  244: "hlt",
  250: "cli",
  251: "sti",
};
const TWO_BYTES: Readonly<Record<number, string>> = {
  6: "clts",
  7: "sysret",
  8: "invd",
  9: "wbinvd",
  32: "mov from a control register",
  33: "mov from a debug register",
  34: "mov to a control register",
  35: "mov to a debug register",
  48: "wrmsr",
  50: "rdmsr",
  51: "rdpmc",
  53: "sysexit",
};
/** 0F 01 by the reg field of ModRM, memory forms (and lmsw). */
const GROUP_7: Readonly<Record<number, string>> = {
  0: "sgdt",
  1: "sidt",
  2: "lgdt",
  3: "lidt",
  4: "smsw",
  6: "lmsw",
  7: "invlpg",
};
const GROUP_7_REGISTER: Readonly<Record<number, string>> = {
  193: "vmcall",
  209: "xsetbv",
  216: "vmrun",
  248: "swapgs",
};

/** The privileged instruction at the start of `code`, if it is one. */
export function privilegedInstruction(code: Uint8Array): string | undefined {
  let at = 0;
  while (at < code.length && PREFIXES.has(code[at] ?? 0)) at++;
  if (((code[at] ?? 0) & 0xf0) === 0x40) at++; // REX
  const [first, second, third] = [code[at], code[at + 1], code[at + 2]];
  if (first === undefined) return undefined;
  if (first !== 0x0f) return ONE_BYTE[first];
  if (second === undefined) return undefined;
  if (second === 0 && third !== undefined) {
    const reg = (third >> 3) & 7;
    return reg === 2 ? "lldt" : reg === 3 ? "ltr" : undefined;
  }
  if (second === 1 && third !== undefined) {
    return third >= 0xc0 && ((third >> 3) & 7) !== 6 ? GROUP_7_REGISTER[third] : GROUP_7[(third >> 3) & 7];
  }
  return TWO_BYTES[second];
}

/** Why a page fault happened, as far as that can be told. */
function pageFaultCause({ address, rsp, errorCode }: FaultFacts): string {
  if (address < NULL_END) return "null pointer";
  if (address >= KERNEL_HALF) return "an address of the kernel";
  const present = (errorCode & PRESENT) !== 0n;
  if ((errorCode & FETCH) !== 0n) return present ? "memory that is not executable" : "not mapped";
  // Beside the stack pointer nothing is mapped, or may not be used, only where the stack has grown into its guard.
  if (address + BELOW_STACK >= rsp && address <= rsp + ABOVE_STACK) return "stack overflow";
  if (!present) return "not mapped";
  return (errorCode & WRITE) !== 0n ? "read-only memory" : "memory without access";
}

function pageFault(facts: FaultFacts, by: string): string {
  const { address, rip, errorCode } = facts;
  const why = ` (${pageFaultCause(facts)})`;
  if ((errorCode & FETCH) !== 0n) {
    return address === rip
      ? `jump to address ${hex(address)}${why}`
      : `execution of address ${hex(address)} by code at ${by}${why}`;
  }
  const verb = (errorCode & WRITE) !== 0n ? "write to" : "read of";
  return `${verb} address ${hex(address)} by code at ${by}${why}`;
}

/**
 * One line without a full stop.
 * @param by the place of the code, such as `main+0x12`, or undefined where it has no name.
 */
export function faultText(facts: FaultFacts, by?: string): string {
  const place = by ?? hex(facts.rip);
  switch (facts.vector) {
    case 0:
      return `division by zero, or a quotient that does not fit, in code at ${place}`;
    case 6:
      return facts.code[0] === 0x0f && facts.code[1] === 0x0b
        ? `invalid instruction in code at ${place} (ud2: a trap that the compiler put there)`
        : `invalid instruction in code at ${place} (not an instruction, or one that this CPU lacks)`;
    case 12:
      return `stack access with a non-canonical address (rsp ${hex(facts.rsp)}) in code at ${place}`;
    case 13: {
      if (facts.rip >= LOWER_END && facts.rip < KERNEL_HALF) {
        return `jump to the non-canonical address ${hex(facts.rip)}`;
      }
      const instruction = privilegedInstruction(facts.code);
      return instruction === undefined
        ? `general protection fault in code at ${place} (a non-canonical address, a misaligned vector operand, or something forbidden)`
        : `privileged instruction (${instruction}) in code at ${place}`;
    }
    case 14:
      return pageFault(facts, place);
    default:
      return `${EXCEPTIONS[facts.vector] ?? `exception ${facts.vector}`} in code at ${place}`;
  }
}
