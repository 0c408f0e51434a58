// SPDX-License-Identifier: Apache-2.0
/** Entry states for small guests: 16-bit real mode, and 64-bit mode with the first 4 GiB identity-mapped. */
import { viewOf } from "../ffi/struct.js";
import type { Segment } from "./structs.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

const CR0_PE = 1n;
const CR0_MP = 2n;
const CR0_ET = 0x10n;
const CR0_NE = 0x20n;
const CR0_PG = 0x8000_0000n;
const CR4_PAE = 0x20n;
const CR4_OSFXSR = 0x200n;
const CR4_OSXMMEXCPT = 0x400n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;
const RFLAGS_RESERVED = 2n;

const PTE_PRESENT_WRITE_USER = 0x7n;
const PTE_LARGE = 0x80n;
const PAGE = 0x1000n;
const LARGE_PAGE = 0x20_0000n;
/** PML4, PDPT and four page directories. */
export const PAGE_TABLES_BYTES = 6 * 4096;

/** 16-bit real mode at segment 0: the code must lie below 64 KiB. `stack` is SP. */
export function setupRealMode(vcpu: Vcpu, options: { entry: number; stack?: number }): void {
  const segment = {
    base: 0n,
    limit: 0xffff,
    selector: 0,
    present: 1,
    s: 1,
    dpl: 0,
    db: 0,
    l: 0,
    g: 0,
    unusable: 0,
  };
  const data = { ...segment, type: 3 };
  vcpu.setSregs({ cs: { ...segment, type: 11 }, ds: data, es: data, fs: data, gs: data, ss: data });
  vcpu.setRegs({
    rip: BigInt(options.entry),
    rsp: BigInt(options.stack ?? options.entry),
    rflags: RFLAGS_RESERVED,
  });
}

/** Where `setupLongMode` starts and what it uses. */
export interface LongModeOptions {
  /** RIP. */
  readonly entry: bigint | number;
  /** RSP; default: just below the page tables. */
  readonly stack?: bigint | number;
  /** GPA of PAGE_TABLES_BYTES (24 KiB) of RAM for page tables; default 0x2000. A multiple of 4 KiB. */
  readonly pageTables?: bigint | number;
  /** First argument of the guest's entry function (RDI). */
  readonly argument?: bigint | number;
}

/** Identity-map the first 4 GiB with 2 MiB pages, readable, writable and executable from every ring. */
export function writePageTables(vm: Vm, gpa: bigint | number): void {
  const base = BigInt(gpa);
  const view = viewOf(vm.memory(base, PAGE_TABLES_BYTES));
  const set = (offset: bigint, entry: bigint) => view.setBigUint64(Number(offset), entry, true);
  for (let i = 0; i < PAGE_TABLES_BYTES; i += 8) {
    view.setBigUint64(i, 0n, true);
  }
  set(0n, (base + PAGE) | PTE_PRESENT_WRITE_USER);
  for (let i = 0n; i < 4n; i++) {
    set(PAGE + i * 8n, (base + PAGE * (i + 2n)) | PTE_PRESENT_WRITE_USER);
  }
  for (let i = 0n; i < 2048n; i++) {
    set(2n * PAGE + i * 8n, (i * LARGE_PAGE) | PTE_PRESENT_WRITE_USER | PTE_LARGE);
  }
}

/** 64-bit mode, ring 0, flat segments, SSE usable, interrupts off. Writes page tables into guest RAM. */
export function setupLongMode(vm: Vm, vcpu: Vcpu, options: LongModeOptions): void {
  const tables = BigInt(options.pageTables ?? 0x2000);
  writePageTables(vm, tables);
  const flat: Segment = {
    base: 0n,
    limit: 0xffff_ffff,
    selector: 0x10,
    type: 3,
    present: 1,
    dpl: 0,
    db: 1,
    s: 1,
    l: 0,
    g: 1,
    avl: 0,
    unusable: 0,
  };
  vcpu.setSregs({
    cs: { ...flat, selector: 0x8, type: 11, db: 0, l: 1 },
    ds: flat,
    es: flat,
    fs: flat,
    gs: flat,
    ss: flat,
    cr0: CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG,
    cr3: tables,
    cr4: CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
    efer: EFER_LME | EFER_LMA,
  });
  vcpu.setRegs({
    rip: BigInt(options.entry),
    rsp: BigInt(options.stack ?? tables),
    rdi: BigInt(options.argument ?? 0),
    rflags: RFLAGS_RESERVED,
  });
}
