// SPDX-License-Identifier: Apache-2.0
/** The report that the lightweight kernel leaves when an application ends: decoded, and the crash in words. */
import { constants } from "node:os";
import { faultText } from "./fault.js";
import { NO_VECTOR, type RawReport } from "./layouts.js";
import { demangle, formatPlace, Symbolizer } from "./symbols.js";
import { systemCallName } from "./system-calls.js";

/** Names of a report's registers, in its order. */
export const REGISTER_NAMES = [
  ...["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"],
  ...["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"],
] as const;

const RIP = 16;
const RSP = 7;

const SIGNAL_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.signals)
    .reverse() // of two names for one number the usual one comes first: SIGABRT, SIGIOT
    .map(([name, number]) => [number, name]),
);

const SIGNAL_WORDS: Readonly<Record<string, string>> = {
  SIGSEGV: "segmentation fault",
  SIGBUS: "bus error",
  SIGILL: "illegal instruction",
  SIGFPE: "arithmetic error",
  SIGTRAP: "trap",
  SIGABRT: "aborted",
  SIGSYS: "bad system call",
};

/** `11` → `"SIGSEGV"`, `34` → `"signal 34"`. */
export function signalName(signal: number): string {
  return SIGNAL_NAMES.get(signal) ?? `signal ${signal}`;
}

/** One line of a backtrace. */
export interface Frame {
  readonly address: bigint;
  /** From the chain of frame pointers; otherwise only found on the stack. */
  readonly exact: boolean;
  /** `main+0x12`, demangled; undefined where there is no name. */
  readonly place: string | undefined;
}

/** Where and why an application was ended by an exception (or by a signal, and then without a fault). */
export interface CrashReport {
  readonly signal: number;
  readonly signalName: string;
  /** The fault in words; undefined where a signal ended it without one. */
  readonly fault: string | undefined;
  /** What the kernel had to say. */
  readonly text: string;
  /** Exception number, error code and CR2; vector undefined: none. */
  readonly vector: number | undefined;
  readonly errorCode: bigint;
  readonly faultAddress: bigint;
  readonly tid: number;
  readonly cpu: number;
  readonly registers: Readonly<Record<(typeof REGISTER_NAMES)[number] | "fs_base", bigint>>;
  readonly code: Uint8Array;
  /** The instruction at fault, then its callers. */
  readonly frames: readonly Frame[];
  /** Run-time address less link-time address. */
  readonly loadBias: bigint;
  /** The program's file has no symbols. */
  readonly stripped: boolean;
}

/** Texts come from the guest: nothing in them may reach a terminal as a command. */
export function clean(text: string): string {
  return text.replace(/[^\x20-\x7e\n]/g, "?").trim();
}

/** The crash part of a report. @param file the program's content, for names */
export function crashReport(raw: RawReport, file: Uint8Array): CrashReport {
  const symbols = new Symbolizer(file, raw.load_bias);
  const rip = raw.registers[RIP] ?? 0n;
  const returns = raw.backtrace.slice(0, raw.backtrace_count).map((address, i) => {
    // A call may be a function's last instruction: the byte before is certainly in the caller.
    const call = symbols.find(address - 1n);
    const found = call === undefined ? undefined : { name: call.name, offset: call.offset + 1n };
    return { address, exact: i < raw.backtrace_exact, found };
  });
  const located = [{ address: rip, exact: true, found: symbols.find(rip) }, ...returns];
  const names = demangle(located.flatMap(({ found }) => (found === undefined ? [] : [found.name])));
  const frames = located.map(({ address, exact, found }) => ({
    address,
    exact,
    place: found === undefined ? undefined : formatPlace(found, names),
  }));
  const code = raw.code.subarray(0, Math.min(raw.code_bytes, raw.code.length));
  const vector = raw.vector === NO_VECTOR ? undefined : raw.vector;
  const registers = Object.fromEntries([
    ...REGISTER_NAMES.map((name, i) => [name, raw.registers[i] ?? 0n] as const),
    ["fs_base", raw.fs_base] as const,
  ]) as CrashReport["registers"];
  const fault =
    vector === undefined
      ? undefined
      : faultText(
          {
            vector,
            errorCode: raw.error_code,
            address: raw.fault_address,
            rip,
            rsp: raw.registers[RSP] ?? 0n,
            code,
          },
          frames[0]?.place,
        );
  return {
    signal: raw.signal,
    signalName: signalName(raw.signal),
    fault,
    text: clean(raw.text),
    vector,
    errorCode: raw.error_code,
    faultAddress: raw.fault_address,
    tid: raw.tid,
    cpu: raw.cpu,
    registers,
    code,
    frames,
    loadBias: raw.load_bias,
    stripped: symbols.empty,
  };
}

/** `SIGSEGV (segmentation fault)`. */
export function signalWords(signal: number): string {
  const name = signalName(signal);
  const words = SIGNAL_WORDS[name];
  return words === undefined ? name : `${name} (${words})`;
}

const wide = (value: bigint) => value.toString(16).padStart(16, "0");

/** Registers, code bytes and backtrace: lines without a final newline. */
export function formatState(crash: CrashReport): string {
  const lines = ["registers"];
  const cells = Object.entries(crash.registers).map(([name, value]) => `${name.padEnd(7)} ${wide(value)}`);
  for (let i = 0; i < cells.length; i += 3) {
    lines.push(`  ${cells.slice(i, i + 3).join("  ")}`);
  }
  if (crash.vector !== undefined) {
    lines.push(
      `  vector ${crash.vector}, error code 0x${crash.errorCode.toString(16)}, cr2 ${wide(crash.faultAddress)}`,
    );
  }
  if (crash.code.length > 0) {
    lines.push(`  code    ${Buffer.from(crash.code).toString("hex").replace(/../g, "$& ").trim()}`);
  }
  lines.push("backtrace");
  crash.frames.forEach((frame, i) => {
    const mark = frame.exact ? `#${i}` : "?";
    lines.push(`  ${mark.padEnd(3)} 0x${wide(frame.address)}  ${frame.place ?? "(no symbol)"}`);
  });
  if (crash.frames.some((frame) => !frame.exact)) {
    lines.push("  (?: an address found on the stack; -fno-omit-frame-pointer makes them exact)");
  }
  return lines.join("\n");
}

/** The whole report for people: signal, fault in words, registers, code bytes, backtrace. */
export function formatCrash(crash: CrashReport): string {
  return [
    `ended by ${signalWords(crash.signal)} in thread ${crash.tid} on CPU ${crash.cpu}`,
    ...(crash.fault === undefined ? [] : [`  ${crash.fault}`]),
    ...crash.text.split("\n").flatMap((line) => (line === "" ? [] : [`  ${line}`])),
    formatState(crash),
    ...(crash.stripped ? ["  (no names: the file has no symbol table)"] : []),
  ].join("\n");
}

/** How often a system call was made. */
export interface CallCount {
  readonly number: number;
  readonly name: string;
  readonly count: number;
}

/** Counters by system call number, the most frequent first. */
export function callCounts(counts: readonly number[]): CallCount[] {
  return counts
    .map((count, number) => ({ number, name: systemCallName(number), count }))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count);
}
