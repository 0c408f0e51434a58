// SPDX-License-Identifier: Apache-2.0
/** The report of an application's end: faults in words, names for addresses, the text as a whole. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { repeatedInstruction } from "../../src/yod/count-instructions.js";
import { codeSymbols } from "../../src/yod/elf.js";
import { type FaultFacts, faultText, privilegedInstruction } from "../../src/yod/fault.js";
import { End, NO_VECTOR, type RawReport, YodReport } from "../../src/yod/layouts.js";
import {
  callCounts,
  clean,
  crashReport,
  formatCrash,
  signalName,
  signalWords,
} from "../../src/yod/report.js";
import { demangle, formatPlace, Symbolizer } from "../../src/yod/symbols.js";
import { NULL_WRITER, Workshop } from "../support/yod-sources.js";

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

function facts(change: Partial<FaultFacts>): FaultFacts {
  return {
    vector: 14,
    errorCode: 4n,
    address: 0n,
    rip: 0x40_1234n,
    rsp: 0x7fff_f000n,
    code: hex("90"),
    ...change,
  };
}

describe("a fault in words", () => {
  it.each<[Partial<FaultFacts>, string]>([
    [{ address: 0n }, "read of address 0x0 by code at main+0x12 (null pointer)"],
    [{ address: 8n, errorCode: 6n }, "write to address 0x8 by code at main+0x12 (null pointer)"],
    [{ address: 0x1234_5678n }, "read of address 0x12345678 by code at main+0x12 (not mapped)"],
    [
      { address: 0x40_2000n, errorCode: 7n },
      "write to address 0x402000 by code at main+0x12 (read-only memory)",
    ],
    [
      { address: 0x40_2000n, errorCode: 5n },
      "read of address 0x402000 by code at main+0x12 (memory without access)",
    ],
    [
      { address: 0xffff_ffff_8000_0000n, errorCode: 5n },
      "read of address 0xffffffff80000000 by code at main+0x12 (an address of the kernel)",
    ],
    [
      { address: 0x7fff_eff8n, errorCode: 6n },
      "write to address 0x7fffeff8 by code at main+0x12 (stack overflow)",
    ],
    [
      { address: 0x7fff_f800n, errorCode: 7n },
      "write to address 0x7ffff800 by code at main+0x12 (stack overflow)",
    ],
    [
      { address: 0x60_0000n, rip: 0x60_0000n, errorCode: 0x15n },
      "jump to address 0x600000 (memory that is not executable)",
    ],
    [{ address: 0n, rip: 0n, errorCode: 0x14n }, "jump to address 0x0 (null pointer)"],
    [
      { address: 0x40_2000n, rip: 0x40_1fffn, errorCode: 0x14n },
      "execution of address 0x402000 by code at main+0x12 (not mapped)",
    ],
    [{ vector: 13, code: hex("f4") }, "privileged instruction (hlt) in code at main+0x12"],
    [
      { vector: 13, code: hex("0f 29 07") },
      "general protection fault in code at main+0x12 (a non-canonical address, a misaligned vector operand, or something forbidden)",
    ],
    [{ vector: 13, rip: 0x1234_0000_0000_0000n }, "jump to the non-canonical address 0x1234000000000000"],
    [{ vector: 0 }, "division by zero, or a quotient that does not fit, in code at main+0x12"],
    [
      { vector: 6, code: hex("0f 0b") },
      "invalid instruction in code at main+0x12 (ud2: a trap that the compiler put there)",
    ],
    [
      { vector: 6, code: hex("62 f1") },
      "invalid instruction in code at main+0x12 (not an instruction, or one that this CPU lacks)",
    ],
    [{ vector: 3 }, "breakpoint (int3) in code at main+0x12"],
    [{ vector: 99 }, "exception 99 in code at main+0x12"],
  ])("%#: %o", (change, text) => {
    expect(faultText(facts(change), "main+0x12")).toBe(text);
  });

  it("names the address of code without a name", () => {
    expect(faultText(facts({}))).toBe("read of address 0x0 by code at 0x401234 (null pointer)");
  });

  it.each([
    ["fa", "cli"],
    ["fb", "sti"],
    ["66 ef", "out"],
    ["f3 6c", "insb"],
    ["0f 30", "wrmsr"],
    ["0f 22 d8", "mov to a control register"],
    ["44 0f 20 c0", "mov from a control register"],
    ["0f 01 1f", "lidt"],
    ["0f 01 f8", "swapgs"],
    ["0f 01 d1", "xsetbv"],
    ["0f 00 d8", "ltr"],
    ["48 0f 07", "sysret"],
    ["90", undefined],
    ["0f 05", undefined],
    ["0f", undefined],
    ["", undefined],
    ["66", undefined],
  ])("knows the privileged instruction %s", (code, name) => {
    expect(privilegedInstruction(hex(code))).toBe(name);
  });
});

describe("string instructions", () => {
  it.each([
    ["f3 aa", { kind: "stos", element: 1, length: 2 }],
    ["f3 48 ab c3", { kind: "stos", element: 8, length: 3 }],
    ["f3 a4 c3", { kind: "movs", element: 1, length: 2 }],
    ["66 f3 a5", { kind: "movs", element: 2, length: 3 }],
    ["f3 a5", { kind: "movs", element: 4, length: 2 }],
    ["a4", undefined],
    ["f3 a6", undefined],
    ["f3 90", undefined],
    ["", undefined],
  ])("are known: %s", (code, found) => {
    expect(repeatedInstruction(hex(code))).toEqual(found);
  });
});

describe("signals", () => {
  it("have names and words", () => {
    expect([signalName(11), signalName(6), signalName(15), signalName(40)]).toEqual([
      ...["SIGSEGV", "SIGABRT", "SIGTERM", "signal 40"],
    ]);
    expect(signalWords(8)).toBe("SIGFPE (arithmetic error)");
    expect(signalWords(2)).toBe("SIGINT");
  });
});

describe("names in a program", () => {
  let shop: Workshop;
  let fixed: Buffer;
  let addresses: Map<string, bigint>;
  beforeAll(() => {
    shop = new Workshop();
    const path = shop.compile("null", NULL_WRITER, ["-O1", "-static", "-no-pie"]);
    fixed = readFileSync(path);
    const nm = execFileSync("nm", [path], { encoding: "utf8" });
    addresses = new Map(
      [...nm.matchAll(/^([0-9a-f]+) [Tt] (\S+)$/gm)].map((m) => [m[2] ?? "", BigInt(`0x${m[1]}`)]),
    );
  });
  afterAll(() => shop[Symbol.dispose]());
  const at = (name: string) => addresses.get(name) ?? 0n;

  it("are those that nm shows", () => {
    const found = new Map(codeSymbols(fixed).map(({ name, address }) => [name, address]));
    for (const name of ["main", "store", "middle", "_start", "exit"]) {
      expect(found.get(name), name).toBe(at(name));
    }
    expect(found.has("stdout")).toBe(false); // data
  });

  it("are found for addresses inside of functions", () => {
    const symbols = new Symbolizer(fixed);
    expect(symbols.empty).toBe(false);
    expect(symbols.find(at("store"))).toEqual({ name: "store", offset: 0n });
    expect(symbols.find(at("main") + 3n)).toEqual({ name: "main", offset: 3n });
    expect(symbols.find(0n)).toBeUndefined();
    expect(symbols.find(0x7fff_ffff_ffffn)).toBeUndefined();
  });

  it("are found in a program that was moved", () => {
    const symbols = new Symbolizer(fixed, 0x7000_0000n);
    expect(symbols.find(at("store") + 0x7000_0001n)).toEqual({ name: "store", offset: 1n });
    expect(symbols.find(at("store"))).toBeUndefined();
  });

  it("are absent from a stripped program", () => {
    execFileSync("strip", ["-o", shop.path("stripped"), shop.path("null")]);
    const symbols = new Symbolizer(readFileSync(shop.path("stripped")));
    expect(symbols.empty).toBe(true);
    expect(symbols.find(at("main"))).toBeUndefined();
  });

  it("do not bring the reader down in a damaged file", () => {
    for (let offset = 40; offset < 64; offset++) {
      for (const value of [0, 1, 0x7f, 0xff]) {
        const copy = Buffer.from(fixed);
        copy[offset] = value;
        codeSymbols(copy);
      }
    }
    const headers = Number(fixed.readBigUInt64LE(40));
    for (let offset = headers; offset < fixed.length; offset += 7) {
      const copy = Buffer.from(fixed);
      copy.fill(0xff, offset, Math.min(offset + 5, copy.length));
      new Symbolizer(copy).find(at("main"));
    }
  });

  it("of C++ are made readable", () => {
    const names = demangle(["_ZN3lwk5crashEPi", "main", "_Znot mangled"]);
    expect(formatPlace({ name: "_ZN3lwk5crashEPi", offset: 5n }, names)).toBe("lwk::crash(int*)+0x5");
    expect(formatPlace({ name: "main", offset: 0n }, names)).toBe("main");
  });

  function raw(change: Partial<RawReport> = {}): RawReport {
    const registers = new Array<bigint>(18).fill(0n);
    registers[7] = 0x7fff_0000n;
    registers[16] = at("store") + 1n;
    registers[17] = 0x10246n;
    return YodReport.decode(
      YodReport.alloc({
        end: End.FAULT,
        signal: 11,
        vector: 14,
        error_code: 6n,
        tid: 42,
        cpu: 1,
        registers,
        code: hex("89 37 8d 46 01"),
        code_bytes: 5,
        backtrace_exact: 1,
        backtrace_count: 3,
        backtrace: [at("middle") + 9n, at("main") + 4n, 0x1234n],
        ...change,
      }),
    );
  }

  it("make a crash readable", () => {
    const crash = crashReport(raw(), fixed);
    expect(crash).toMatchObject({ signal: 11, signalName: "SIGSEGV", vector: 14, stripped: false });
    expect(formatCrash(crash)).toBe(
      [
        "ended by SIGSEGV (segmentation fault) in thread 42 on CPU 1",
        "  write to address 0x0 by code at store+0x1 (null pointer)",
        "registers",
        "  rax     0000000000000000  rbx     0000000000000000  rcx     0000000000000000",
        "  rdx     0000000000000000  rsi     0000000000000000  rdi     0000000000000000",
        "  rbp     0000000000000000  rsp     000000007fff0000  r8      0000000000000000",
        "  r9      0000000000000000  r10     0000000000000000  r11     0000000000000000",
        "  r12     0000000000000000  r13     0000000000000000  r14     0000000000000000",
        `  r15     0000000000000000  rip     ${(at("store") + 1n).toString(16).padStart(16, "0")}  rflags  0000000000010246`,
        "  fs_base 0000000000000000",
        "  vector 14, error code 0x6, cr2 0000000000000000",
        "  code    89 37 8d 46 01",
        "backtrace",
        `  #0  0x${(at("store") + 1n).toString(16).padStart(16, "0")}  store+0x1`,
        `  #1  0x${(at("middle") + 9n).toString(16).padStart(16, "0")}  middle+0x9`,
        `  ?   0x${(at("main") + 4n).toString(16).padStart(16, "0")}  main+0x4`,
        "  ?   0x0000000000001234  (no symbol)",
        "  (?: an address found on the stack; -fno-omit-frame-pointer makes them exact)",
      ].join("\n"),
    );
  });

  it("name the caller also where the call is its last instruction", () => {
    const end = at("middle");
    const before = new Symbolizer(fixed).find(end - 1n);
    const { frames } = crashReport(raw({ backtrace: [end], backtrace_count: 1 }), fixed);
    expect(frames[1]?.place).toBe(`${before?.name}+0x${((before?.offset ?? 0n) + 1n).toString(16)}`);
  });

  it("are not needed", () => {
    const text = formatCrash(crashReport(raw({ text: "what the kernel says" }), new Uint8Array()));
    expect(text).toContain("what the kernel says");
    expect(text).toContain("(no names: the file has no symbol table)");
  });

  it("and a signal without an exception has no fault", () => {
    const crash = crashReport(raw({ vector: NO_VECTOR, signal: 6 }), fixed);
    expect(crash).toMatchObject({ fault: undefined, vector: undefined, signalName: "SIGABRT" });
    expect(formatCrash(crash)).not.toContain("vector");
  });

  it("survive counts beyond their arrays", () => {
    const crash = crashReport(raw({ code_bytes: 999, backtrace_count: 999, backtrace_exact: 999 }), fixed);
    expect(crash.code).toHaveLength(16);
    expect(crash.frames).toHaveLength(65);
  });
});

describe("what the guest says", () => {
  it("cannot command a terminal", () => {
    expect(clean("a\x1b[2Jb\x07\nc\x9b\r")).toBe("a?[2Jb?\nc??");
  });

  it("about system calls is sorted and named", () => {
    const counts = new Array<number>(512).fill(0);
    counts[57] = 2;
    counts[1] = 7;
    counts[400] = 1;
    expect(callCounts(counts)).toEqual([
      { number: 1, name: "write", count: 7 },
      { number: 57, name: "fork", count: 2 },
      { number: 400, name: "syscall 400", count: 1 },
    ]);
  });
});
