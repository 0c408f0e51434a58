// SPDX-License-Identifier: Apache-2.0
/**
 * The ACPI tables as iasl, the reference compiler, sees them: it must take each apart and put it together again
 * without an error, warning or remark, and get the same bytes.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const run = promisify(execFile);
const tool = fileURLToPath(new URL("../../native/build/release/acpi-dump", import.meta.url));

/** What iasl writes into a header when it compiles: its own name and revision, hence another checksum. */
const CHECKSUM = 9;
const CREATOR = { start: 28, end: 36 };

function withoutCreator(table: Buffer): Buffer {
  const copy = Buffer.from(table);
  copy[CHECKSUM] = 0;
  copy.fill(0, CREATOR.start, CREATOR.end);
  return copy;
}

/** A field of a disassembled data table: iasl prints "[offset] name : value". */
function fields(listing: string, name: string): string[] {
  return listing
    .split("\n")
    .map((line) => line.split(" : "))
    .filter(([key]) => key?.replace(/^\[.*\]/, "").trim() === name)
    .map(([, value]) => value?.trim() ?? "");
}

const machines = [
  { name: "1 vCPU", options: ["1"], cpus: 1 },
  { name: "4 vCPUs", options: ["4"], cpus: 4 },
  { name: "255 vCPUs", options: ["255"], cpus: 255 },
  { name: "300 vCPUs", options: ["300"], cpus: 300 },
  { name: "3000 vCPUs", options: ["3000"], cpus: 3000 },
  { name: "sparse APIC ids", options: ["40", "--spread", "16"], cpus: 40 },
  { name: "no UART", options: ["2", "--no-uart"], cpus: 2 },
  { name: "PCI devices and a generation ID", options: ["2", "--pci", "--generation-id"], cpus: 2 },
  { name: "2 NUMA nodes", options: ["4", "--nodes", "2"], cpus: 4 },
  { name: "64 NUMA nodes, x2APIC ids", options: ["300", "--nodes", "64", "--pci"], cpus: 300 },
  { name: "a power button", options: ["2", "--power-button", "--generation-id"], cpus: 2 },
];

describe.each(machines)("ACPI tables: $name", ({ options, cpus }) => {
  let directory: string;
  const listings = new Map<string, string>();
  const pci = options.includes("--pci");
  const nodes = options.includes("--nodes") ? Number(options[options.indexOf("--nodes") + 1]) : 0;
  const tables = [
    ...["DSDT", "FACP", "APIC", "XSDT"],
    ...(pci ? ["MCFG"] : []),
    ...(nodes > 0 ? ["SRAT", "SLIT"] : []),
  ];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "v3m-acpi-"));
    await run(tool, [directory, ...options]);
    for (const table of tables) {
      await run("iasl", ["-d", `${table}.dat`], { cwd: directory });
      listings.set(table, await readFile(join(directory, `${table}.dsl`), "latin1"));
    }
  }, 30_000);

  afterAll(() => rm(directory, { recursive: true, force: true }));

  it.each(tables)("%s compiles again to the same bytes, with no remark", async (table) => {
    expect(listings.get(table)).not.toMatch(/error|warning|unknown|incorrect|invalid/i);
    // -we: warnings are errors.
    const { stdout, stderr } = await run("iasl", ["-we", "-p", `new-${table}`, `${table}.dsl`], {
      cwd: directory,
    });
    expect(stdout + stderr).toContain("Compilation successful. 0 Errors, 0 Warnings, 0 Remarks");
    const [ours, theirs] = await Promise.all(
      [`${table}.dat`, `new-${table}.aml`].map((file) => readFile(join(directory, file))),
    );
    expect(ours && withoutCreator(ours)).toEqual(theirs && withoutCreator(theirs));
  });

  it("describes the processors and the IOAPIC in the MADT", () => {
    const madt = listings.get("APIC") ?? "";
    const step = options.includes("--spread") ? 16 : 1;
    const ids = [...fields(madt, "Local Apic ID"), ...fields(madt, "Processor x2Apic ID")];
    const uids = [...fields(madt, "Processor ID"), ...fields(madt, "Processor UID")]
      .map((value) => Number.parseInt(value, 16))
      .filter((uid) => uid !== 0xff && uid !== 0xffffffff);
    expect(ids.map((id) => Number.parseInt(id, 16))).toEqual(
      Array.from({ length: cpus }, (_, i) => i * step),
    );
    const expected = Array.from({ length: cpus }, (_, i) => i).filter((uid) => uid !== 0xff);
    expect(uids).toEqual(expected);
    expect(fields(madt, "Processor Enabled").every((value) => value === "1")).toBe(true);
    expect(fields(madt, "PC-AT Compatibility")).toEqual(["0"]);
    expect(fields(madt, "Local Apic Address")).toEqual(["FEE00000"]);
    expect(fields(madt, "Address")).toEqual(["FEC00000"]);
    expect(fields(madt, "Interrupt")).toEqual(["00000000"]);
    expect(fields(madt, "Interrupt Input LINT")).toEqual(["01"]);
    expect(madt).not.toContain("Interrupt Source Override");
  });

  if (nodes > 0) {
    it("has each vCPU and all RAM in a NUMA node in the SRAT, their distances in the SLIT", () => {
      const srat = listings.get("SRAT") ?? "";
      const hex = (name: string) => fields(srat, name).map((value) => Number.parseInt(value, 16));
      expect([...hex("Apic ID"), ...hex("x2Apic ID")]).toEqual(Array.from({ length: cpus }, (_, i) => i));
      expect([...hex("Proximity Domain Low(8)"), ...hex("Proximity Domain")]).toEqual([
        ...Array.from({ length: cpus }, (_, i) => i % nodes),
        nodes - 1, // of the RAM
      ]);
      expect(hex("Base Address")).toEqual([0]);
      expect(hex("Address Length")).toEqual([2 << 20]);
      expect(fields(srat, "Enabled").every((value) => value === "1")).toBe(true);
      const slit = listings.get("SLIT") ?? "";
      expect(Number.parseInt(fields(slit, "Localities")[0] ?? "", 16)).toBe(nodes);
    });
  }

  it("says in the FADT that the machine is hardware-reduced, and how to sleep and reset", () => {
    const fadt = listings.get("FACP") ?? "";
    expect(fields(fadt, "Hardware Reduced (V5)")).toEqual(["1"]);
    expect(fields(fadt, "VGA Not Present (V4)")).toEqual(["1"]);
    expect(fields(fadt, "CMOS RTC Not Present (V5)")).toEqual(["1"]);
    expect(fields(fadt, "8042 Present on ports 60/64 (V2)")).toEqual(["0"]);
    expect(fields(fadt, "MSI Not Supported (V4)")).toEqual(["0"]);
    expect(fields(fadt, "Reset Register Supported (V2)")).toEqual(["1"]);
    expect(fields(fadt, "Value to cause reset")).toEqual(["06"]);
    const addresses = fields(fadt, "Address").filter((address) => !/^0*$/.test(address));
    expect(addresses).toEqual(["0000000000000CF9", "0000000000000600", "0000000000000601"]);
  });

  it("names the power-off state and the UART in the DSDT", () => {
    const dsdt = listings.get("DSDT") ?? "";
    expect(dsdt).toMatch(/Name \(_S5, Package \(0x04\)[^{]*\{\s*0x05,/);
    if (options.includes("--no-uart")) {
      expect(dsdt).not.toContain("PNP0501");
    } else {
      expect(dsdt).toContain('EisaId ("PNP0501")');
      expect(dsdt).toMatch(/0x03F8,\s+\/\/ Range Minimum/);
      expect(dsdt).toMatch(/Interrupt \(ResourceConsumer, Edge, ActiveHigh, Exclusive[^{]*\{\s*0x00000004,/);
    }
  });
});

describe("ACPI tables of PCI and the generation ID", () => {
  it("are absent from a machine without", async () => {
    const directory = await mkdtemp(join(tmpdir(), "v3m-acpi-"));
    try {
      await run(tool, [directory, "1"]);
      await expect(readFile(join(directory, "MCFG.dat"))).rejects.toThrow("ENOENT");
      await run("iasl", ["-d", "DSDT.dat"], { cwd: directory });
      expect(await readFile(join(directory, "DSDT.dsl"), "latin1")).not.toMatch(/PNP0A0|VMGENCTR|ACPI0013/);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  it("name bus 0, its windows, a line for each slot, and the event", async () => {
    const directory = await mkdtemp(join(tmpdir(), "v3m-acpi-"));
    try {
      await run(tool, [directory, "1", "--pci", "--generation-id"]);
      for (const table of ["DSDT", "MCFG"]) await run("iasl", ["-d", `${table}.dat`], { cwd: directory });
      const mcfg = await readFile(join(directory, "MCFG.dsl"), "latin1");
      expect(fields(mcfg, "Base Address")).toEqual(["00000000E0000000"]);
      expect(fields(mcfg, "End Bus Number")).toEqual(["00"]);
      const dsdt = await readFile(join(directory, "DSDT.dsl"), "latin1");
      expect(dsdt).toContain('EisaId ("PNP0A08")');
      expect(dsdt.match(/0x[0-9A-F]+FFFF,/g)?.length).toBeGreaterThanOrEqual(31);
      expect(dsdt).toMatch(/QWordMemory[^;]*0x0000000100000000,\s+\/\/ Range Minimum/);
      expect(dsdt).toMatch(/Method \(_EVT, 1, Serialized\)[^}]*Notify \(VGEN, 0x80\)/);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});

describe("acpi-dump", () => {
  it.each([
    { why: "more vCPUs than the tables hold", options: ["5000"], message: /VMMHPC_E_LIMIT.*5000 vCPUs/ },
    { why: "no vCPU", options: ["0"], message: /usage/ },
    { why: "an unknown option", options: ["1", "--uart"], message: /--uart: unknown option/ },
  ])("refuses $why", async ({ options, message }) => {
    await expect(run(tool, [tmpdir(), ...options])).rejects.toMatchObject({ stderr: message });
  });
});
