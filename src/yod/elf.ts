// SPDX-License-Identifier: Apache-2.0
/** ELF files: enough to say whether the lightweight kernel can run one, and to name addresses in it. */
import { AppError } from "./errors.js";

const ET_EXEC = 2;
const ET_DYN = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_INTERP = 3;
const SHT_SYMTAB = 2;
const EHDR_BYTES = 64;
const PHDR_BYTES = 56;
const SHDR_BYTES = 64;
const SYM_BYTES = 24;

const MACHINES: Readonly<Record<number, string>> = {
  3: "32-bit x86",
  8: "MIPS",
  20: "PowerPC",
  21: "64-bit PowerPC",
  22: "S/390",
  40: "32-bit ARM",
  183: "AArch64",
  243: "RISC-V",
  258: "LoongArch",
};

/** What was found out about an application's file. */
export interface ElfInfo {
  /** Position-independent: loaded where the kernel likes. */
  readonly pie: boolean;
  /** Link-time address of the first instruction. */
  readonly entry: bigint;
  /** Bytes of memory that its segments take. */
  readonly memoryBytes: bigint;
}

/** A function (or another place in code that has a name). */
export interface CodeSymbol {
  readonly name: string;
  /** Link-time address. */
  readonly address: bigint;
  /** 0 where the file does not say. */
  readonly bytes: bigint;
}

/** A 64-bit number where it is small enough to be an offset in a file. */
function offset64(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : Number.MAX_SAFE_INTEGER;
}

function viewOf(file: Uint8Array): DataView {
  return new DataView(file.buffer, file.byteOffset, file.byteLength);
}

const STATIC_HINT = "link it with -static (or -static-pie): gcc -static -o app app.c";

function notElf(file: Uint8Array, name: string): AppError {
  const text = Buffer.from(file.subarray(0, 200)).toString("latin1");
  if (text.startsWith("#!")) {
    const interpreter = text.slice(2).split("\n", 1)[0]?.trim() ?? "";
    return new AppError("E_APP_SCRIPT", `${name} is a script for ${interpreter}, not a program`, {
      hint: `give a statically linked interpreter and the script: v2m yod ${interpreter} ${name}`,
    });
  }
  const what = file.length === 0 ? "empty" : "not an ELF file";
  return new AppError("E_APP_FORMAT", `${name} is ${what}`, {
    hint: "give a statically linked Linux program for x86-64",
  });
}

/**
 * Check that the lightweight kernel can load this file. The kernel checks again: this is for good messages.
 * @throws AppError
 */
export function checkApplication(file: Uint8Array, name: string): ElfInfo {
  const bad = (what: string, hint = "give a statically linked Linux program for x86-64"): AppError =>
    new AppError("E_APP_FORMAT", `${name} ${what}`, { hint });
  const view = viewOf(file);
  if (file.length < 16 || view.getUint32(0, false) !== 0x7f454c46) {
    throw notElf(file, name);
  }
  if (file.length < EHDR_BYTES) {
    throw bad("is cut off: its ELF header is not complete", "copy or link it again");
  }
  const machine = view.getUint16(18, view.getUint8(5) !== 2);
  if (view.getUint8(5) !== 1 || machine !== EM_X86_64) {
    throw bad(`is for ${MACHINES[machine] ?? `machine type ${machine}`}, not for x86-64`);
  }
  if (view.getUint8(4) !== 2) {
    throw bad("is a 32-bit (x32) program", "build it for 64 bits: gcc -m64 -static");
  }
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC && type !== ET_DYN) {
    const kinds: Readonly<Record<number, string>> = { 1: "an object file", 4: "a core dump" };
    throw bad(`is ${kinds[type] ?? `an ELF file of type ${type}`}, not a program`, STATIC_HINT);
  }
  const entry = view.getBigUint64(24, true);
  const segments = programHeaders(file);
  if (segments === undefined) {
    throw bad("is cut off: its program headers are not complete", "copy or link it again");
  }
  if (segments.some((segment) => segment.type === PT_INTERP)) {
    throw new AppError("E_APP_DYNAMIC", `${name} is dynamically linked`, { hint: STATIC_HINT });
  }
  const loads = segments.filter((segment) => segment.type === PT_LOAD);
  if (type === ET_DYN && entry === 0n) {
    throw new AppError("E_APP_DYNAMIC", `${name} is a shared library, not a program`, { hint: STATIC_HINT });
  }
  if (loads.length === 0) {
    throw bad("has nothing to load");
  }
  if (loads.some((segment) => segment.offset + segment.fileBytes > BigInt(file.length))) {
    throw bad("is cut off: a segment reaches beyond its end", "copy or link it again");
  }
  return {
    pie: type === ET_DYN,
    entry,
    memoryBytes: loads.reduce((sum, segment) => sum + segment.memoryBytes, 0n),
  };
}

interface Segment {
  readonly type: number;
  readonly offset: bigint;
  readonly fileBytes: bigint;
  readonly memoryBytes: bigint;
}

function programHeaders(file: Uint8Array): Segment[] | undefined {
  const view = viewOf(file);
  const start = offset64(view, 32);
  const size = view.getUint16(54, true);
  const count = view.getUint16(56, true);
  if (count > 0 && (size < PHDR_BYTES || start + size * count > file.length)) {
    return undefined;
  }
  return Array.from({ length: count }, (_, i) => {
    const at = start + i * size;
    return {
      type: view.getUint32(at, true),
      offset: view.getBigUint64(at + 8, true),
      fileBytes: view.getBigUint64(at + 32, true),
      memoryBytes: view.getBigUint64(at + 40, true),
    };
  });
}

/**
 * Functions and other labels in code, by address. Empty for a stripped file; a damaged table is read as far
 * as it goes.
 */
export function codeSymbols(file: Uint8Array): CodeSymbol[] {
  if (file.length < EHDR_BYTES) {
    return [];
  }
  const view = viewOf(file);
  const start = offset64(view, 40);
  const size = view.getUint16(58, true);
  const count = view.getUint16(60, true);
  if (size < SHDR_BYTES || start + size * count > file.length) {
    return [];
  }
  const section = (index: number) => {
    const at = start + index * size;
    return {
      type: view.getUint32(at + 4, true),
      flags: view.getBigUint64(at + 8, true),
      offset: offset64(view, at + 24),
      bytes: offset64(view, at + 32),
      link: view.getUint32(at + 40, true),
    };
  };
  const symbols: CodeSymbol[] = [];
  for (let i = 0; i < count; i++) {
    const table = section(i);
    if (table.type !== SHT_SYMTAB || table.link >= count || table.offset + table.bytes > file.length) {
      continue;
    }
    const strings = section(table.link);
    const names = Buffer.from(file.buffer, file.byteOffset, file.byteLength).subarray(
      Math.min(strings.offset, file.length),
      Math.min(strings.offset + strings.bytes, file.length),
    );
    for (let at = table.offset; at + SYM_BYTES <= table.offset + table.bytes; at += SYM_BYTES) {
      const kind = view.getUint8(at + 4) & 15;
      const home = view.getUint16(at + 6, true);
      // STT_FUNC, STT_GNU_IFUNC, and labels of assembly code; defined, in an executable section.
      const code = home > 0 && home < count && (section(home).flags & 4n) !== 0n;
      if (!code || (kind !== 2 && kind !== 10 && kind !== 0)) {
        continue;
      }
      const from = view.getUint32(at, true);
      const end = names.indexOf(0, from);
      const name = from < names.length ? names.toString("utf8", from, end < 0 ? names.length : end) : "";
      if (name !== "") {
        symbols.push({
          name,
          address: view.getBigUint64(at + 8, true),
          bytes: view.getBigUint64(at + 16, true),
        });
      }
    }
  }
  return symbols;
}
