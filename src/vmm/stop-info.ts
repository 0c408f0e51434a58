// SPDX-License-Identifier: Apache-2.0
/** How a machine ended, and a readable report of a crash. */
import { type StopInfo as NativeStopInfo, State, StopReason } from "../ffi/index.js";
import { exitName } from "./stats.js";

export type MachineState = "created" | "running" | "paused" | "stopped" | "crashed";

export type StopCause =
  | "none"
  | "poweroff"
  | "request"
  | "reset"
  | "triple-fault"
  | "internal-error"
  | "entry-failed"
  | "unknown-exit"
  | "run-failed"
  | "reset-failed"
  | "guest-crash"
  | "monitor-ended";

export interface Registers {
  readonly [name: string]: bigint;
}

export interface StopInfo {
  readonly state: MachineState;
  readonly cause: StopCause;
  /** One sentence for people. */
  readonly text: string;
  /** Where the machine crashed: */
  readonly vcpu: number;
  readonly exit: string;
  readonly suberror: number;
  readonly hardwareReason: bigint;
  readonly errno: number;
  readonly registers: Registers | undefined;
  /** Memory at CS:RIP, as far as it could be read. */
  readonly code: Uint8Array;
}

const STATES = Object.fromEntries(
  Object.entries(State).map(([name, value]) => [value, name.toLowerCase()]),
) as Readonly<Record<number, MachineState>>;
const CAUSES = Object.fromEntries(
  Object.entries(StopReason).map(([name, value]) => [value, name.toLowerCase().replaceAll("_", "-")]),
) as Readonly<Record<number, StopCause>>;

const REGISTERS =
  "rip rflags rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 cr0 cr2 cr3 cr4 efer cs_base".split(
    " ",
  ) as readonly (keyof NativeStopInfo)[];

export function stateName(state: number): MachineState {
  return STATES[state] ?? "crashed";
}

export function decodeStopInfo(info: NativeStopInfo): StopInfo {
  return {
    state: stateName(info.state),
    cause: CAUSES[info.reason] ?? "none",
    text: info.text,
    vcpu: info.vcpu,
    exit: exitName(info.exit_reason),
    suberror: info.suberror,
    hardwareReason: info.hardware_reason,
    errno: info.sys_errno,
    registers:
      info.has_registers === 0
        ? undefined
        : Object.fromEntries(REGISTERS.map((name) => [name, info[name] as bigint])),
    code: Uint8Array.from(info.code).subarray(0, info.code_bytes),
  };
}

/** The report of a crash: sentence, registers, code bytes. Lines without a final newline. */
export function formatStopInfo(info: StopInfo): string {
  const lines = [info.text];
  if (info.registers !== undefined) {
    const cells = Object.entries(info.registers).map(
      ([name, value]) => `${name.padEnd(7)} ${value.toString(16).padStart(16, "0")}`,
    );
    for (let i = 0; i < cells.length; i += 3) {
      lines.push(`  ${cells.slice(i, i + 3).join("  ")}`);
    }
  }
  if (info.code.length > 0) {
    lines.push(`  code    ${Buffer.from(info.code).toString("hex").replace(/../g, "$& ").trim()}`);
  }
  return lines.join("\n");
}
