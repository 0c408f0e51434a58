// SPDX-License-Identifier: Apache-2.0
/** Machine options: what they become for libvmmhpc, and what is refused before it is asked. */
import { describe, expect, it } from "vitest";
import { Backing, Flag, ImageKind } from "../../src/ffi/layouts.js";
import { ArgumentError, type MachineOptions } from "../../src/vmm/index.js";
import { nativeBoot, nativeConfig } from "../../src/vmm/options.js";

const config = (options: Partial<MachineOptions> = {}) => nativeConfig({ kernel: "k", ...options });
const boot = (options: Partial<MachineOptions> = {}) =>
  nativeBoot({ kernel: "k", ...options }, options.kernel ?? "k");

describe("machine options", () => {
  it("have defaults", () => {
    expect(config()).toEqual({
      cpus: 1,
      coresPerSocket: 0,
      threadsPerCore: 0,
      flags: 0,
      memory: [{ bytes: 128n << 20n, backing: Backing.THP, prefault: false, numaNode: -1 }],
    });
    expect(boot()).toEqual({ kernel: "k", kind: ImageKind.AUTO });
  });

  it("become flags", () => {
    expect(config({ onReset: "stop" }).flags).toBe(Flag.STOP_ON_RESET);
    expect(config({ uart: false }).flags).toBe(Flag.NO_UART);
    expect(config({ bare: true }).flags).toBe(Flag.BARE);
    expect(config({ hideXsave: true }).flags).toBe(Flag.HIDE_XSAVE);
    expect(config({ deviceModules: [{ module: "m" }] }).flags).toBe(Flag.EXTERNAL_VCPUS);
    expect(config({ deviceModules: [], onReset: "reboot", uart: true }).flags).toBe(0);
    expect(config({ bare: true, uart: false }).flags).toBe(Flag.BARE | Flag.NO_UART);
  });

  it("give memory as a number, or region by region", () => {
    expect(config({ memory: 1 << 20 }).memory).toMatchObject([{ bytes: 1n << 20n }]);
    expect(config({ memory: 1n << 40n }).memory).toMatchObject([{ bytes: 1n << 40n }]);
    const regions = [
      { bytes: 4096, backing: "anon", numaNode: 1 },
      { bytes: 4096n, backing: "memfd", prefault: true },
      { bytes: 1, backing: "huge-2M" },
      { bytes: 1, backing: "huge-1G" },
    ] as const;
    expect(config({ memory: regions }).memory).toEqual([
      { bytes: 4096n, backing: Backing.ANON, prefault: false, numaNode: 1 },
      { bytes: 4096n, backing: Backing.MEMFD, prefault: true, numaNode: -1 },
      { bytes: 1n, backing: Backing.HUGE_2M, prefault: false, numaNode: -1 },
      { bytes: 1n, backing: Backing.HUGE_1G, prefault: false, numaNode: -1 },
    ]);
    expect(config({ memory: [] }).memory).toEqual([]); // libvmmhpc says what is wrong with it
  });

  it("pass pins, paths, topology, files and buffers on", () => {
    expect(
      config({ pin: [3, -1, 0], kvmPath: "/dev/kvm2", cpus: 6, coresPerSocket: 3, threadsPerCore: 2 }),
    ).toMatchObject({ pin: [3, -1, 0], kvmPath: "/dev/kvm2", cpus: 6, coresPerSocket: 3, threadsPerCore: 2 });
    const initrd = Uint8Array.of(1);
    expect(boot({ kind: "flat64", loadAddress: 0x10_0000, initrd, cmdline: "quiet" })).toEqual({
      kernel: "k",
      kind: ImageKind.FLAT64,
      loadAddress: 0x10_0000n,
      initrd,
      cmdline: "quiet",
    });
  });

  const bad: [string, Partial<MachineOptions>, string][] = [
    ["vCPUs that are no whole number", { cpus: 1.5 }, "the number of vCPUs must be a whole number, not 1.5"],
    ["NaN vCPUs", { cpus: Number.NaN }, "not NaN"],
    ["vCPUs as text", { cpus: "2" as unknown as number }, "a whole number, not 2"],
    ["negative vCPUs", { cpus: -1 }, "the number of vCPUs must be at least 0, not -1"],
    ["more vCPUs than 32 bits", { cpus: 2 ** 32 }, "the number of vCPUs is too large: 4294967296"],
    ["negative cores", { coresPerSocket: -2 }, "cores per socket must be at least 0"],
    ["half a thread", { threadsPerCore: 0.5 }, "threads per core must be a whole number"],
    ["half a byte of memory", { memory: 0.5 }, "memory region 0 must be a whole number"],
    ["negative memory", { memory: -4096n }, "memory region 0 must be at least 0"],
    ["memory beyond 64 bits", { memory: 1n << 64n }, "memory region 0 is too large"],
    ["a NUMA node below -1", { memory: [{ bytes: 1, numaNode: -2 }] }, "NUMA node of memory region 0"],
    ["a NUMA node that is none", { memory: [{ bytes: 1, numaNode: 0.5 }] }, "NUMA node of memory region 0"],
    [
      "an unknown backing",
      { memory: [{ bytes: 1 }, { bytes: 1, backing: "swap" as "anon" }] },
      "memory region 1: unknown backing swap",
    ],
    ["a pin below -1", { pin: [0, -2] }, "pin of vCPU 1 must be at least -1"],
    ["a pin that would wrap round", { pin: [2 ** 32] }, "pin of vCPU 0 is too large"],
  ];
  it.each(bad)("refuse %s", (_what, options, message) => {
    expect(() => config(options)).toThrow(ArgumentError);
    expect(() => config(options)).toThrow(message);
  });

  const badBoot: [string, Partial<MachineOptions>, string][] = [
    ["an unknown kind", { kind: "efi" as "auto" }, "unknown kind of kernel: efi"],
    ["a NUL in the command line", { cmdline: "a\0b" }, "the command line holds a NUL"],
    ["a NUL in a path", { kernel: "/boot/\0" }, "the kernel's path holds a NUL"],
    ["a NUL in the initrd's path", { initrd: "\0" }, "the initrd's path holds a NUL"],
    ["a load address that is none", { loadAddress: 1.5 }, "the load address must be a whole number"],
    ["a negative load address", { loadAddress: -1 }, "the load address must be at least 0"],
    ["a load address beyond 64 bits", { loadAddress: 1n << 64n }, "the load address is too large"],
  ];
  it.each(badBoot)("refuse %s", (_what, options, message) => {
    expect(() => boot(options)).toThrow(ArgumentError);
    expect(() => boot(options)).toThrow(message);
  });

  it("errors carry code, value and hint", () => {
    expect(() => config({ cpus: -3 })).toThrow(expect.objectContaining({ code: "E_INVALID", value: -3n }));
    expect(() => config({ memory: [{ bytes: 1, backing: "x" as "anon" }] })).toThrow(
      expect.objectContaining({ hint: "one of anon, thp, memfd, huge-2M, huge-1G" }),
    );
    expect(() => boot({ kind: "x" as "auto" })).toThrow(
      expect.objectContaining({ hint: "one of auto, bzimage, linux, pvh, multiboot, flat16, flat64" }),
    );
  });
});
