// SPDX-License-Identifier: Apache-2.0
/** Debian's kernel, in every form and with 1, 2 and 4 vCPUs, to a shell. Each machine is booted once. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureKernel } from "../../harness/kernels.js";
import { type KernelKind, unpackKernel } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest, type LinuxOptions } from "../support/linux.js";
import {
  clockSource,
  lscpu,
  lscpuFiles,
  suspiciousMessages,
  sysfsTopology,
} from "../support/linux-checks.js";

interface Form {
  readonly name: string;
  readonly cpus: readonly number[];
  /** As what it is loaded. */
  readonly kind: KernelKind;
  options(): Promise<LinuxOptions>;
}

const bzImage = async () => (await ensureKernel("cloud")).bzImage;

const forms: readonly Form[] = [
  {
    name: "bzImage, decompressed by the guest",
    cpus: [1, 2, 4],
    kind: "bzimage",
    options: async () => ({ kernel: await bzImage(), unpack: false }),
  },
  {
    name: "vmlinux",
    cpus: [1, 2, 4],
    kind: "linux",
    options: async () => ({ kernel: await unpackKernel(await bzImage()) }),
  },
  {
    name: "bzImage, decompressed on the host",
    cpus: [1],
    kind: "linux",
    options: async () => ({ kernel: await bzImage() }),
  },
  {
    name: "vmlinux by PVH",
    cpus: [1],
    kind: "pvh",
    options: async () => ({ kernel: await unpackKernel(await bzImage()), kind: "pvh" }),
  },
];

function checks(form: Form, cpus: number): void {
  let guest: LinuxGuest;
  beforeAll(async () => {
    guest = await LinuxGuest.boot({
      ...(await form.options()),
      cpus,
      initramfs: { extraFiles: await lscpuFiles() },
    });
  });
  afterAll(() => guest?.dispose());

  it("boots to a shell that runs commands", async () => {
    expect(guest.machine.kind).toBe(form.kind);
    expect(guest.machine.state).toBe("running");
    expect(await guest.sh("echo $((6 * 7)); uname -m")).toBe("42\nx86_64");
    expect(await guest.run("false")).toEqual({ code: 1, output: "" });
  });

  it("shows its CPUs and their topology", async () => {
    expect(await guest.sh("nproc")).toBe(String(cpus));
    expect(await lscpu(guest)).toEqual({ cpus, threadsPerCore: 1, coresPerSocket: cpus, sockets: 1 });
    const seen = await sysfsTopology(guest);
    expect(seen.map((cpu) => cpu.package)).toEqual(Array(cpus).fill(0));
    expect(new Set(seen.map((cpu) => cpu.core)).size).toBe(cpus);
  });

  it("has no warning about ACPI, APIC, clock or firmware in its log", async () => {
    expect(await suspiciousMessages(guest)).toEqual([]);
  });

  it("takes the time from kvmclock or the TSC", async () => {
    expect(await clockSource(guest)).toMatch(/^(kvm-clock|tsc)$/);
  });

  it("does work on every CPU", async () => {
    const each = Array.from({ length: cpus }, (_, cpu) => `taskset -c ${cpu} sh -c 'echo ${cpu} ran' & `);
    const output = await guest.sh(`${each.join("")} wait`);
    expect(
      output
        .split("\n")
        .filter((line) => / ran$/.test(line))
        .sort(),
    ).toEqual(Array.from({ length: cpus }, (_, cpu) => `${cpu} ran`));
    const online = (await guest.sh("grep '^cpu[0-9]' /proc/stat")).split("\n");
    expect(online).toHaveLength(cpus);
  });

  it("is counted: exits by reason, KVM's counters, the console's bytes", () => {
    const { console: bytes, vcpus, firstRunNs } = guest.machine.stats();
    expect(firstRunNs).toBeGreaterThan(0n);
    expect(bytes.dropped).toBe(0);
    expect(bytes.out).toBeGreaterThanOrEqual(guest.text.length);
    expect(bytes.in).toBeGreaterThan(0);
    expect(vcpus[0]?.exits.find((exit) => exit.reason === "io")?.count).toBeGreaterThan(bytes.out / 16);
    const kvm = guest.machine.kvmStats();
    expect(kvm.vcpus).toHaveLength(cpus);
    for (const vcpu of kvm.vcpus) expect(vcpu.exits).toBeGreaterThan(0);
    expect(kvm.guestExits).toBeGreaterThan(200);
    expect(kvm.guestExits).toBeLessThanOrEqual(kvm.total.exits ?? 0);
  });

  it("powers itself off", async () => {
    guest.type("poweroff -f\n");
    expect(await guest.ended()).toMatchObject({ state: "stopped", cause: "poweroff" });
  });
}

suite("Debian's cloud kernel", { needs: ["linux-guest"] }, () => {
  for (const form of forms) {
    for (const cpus of form.cpus) {
      describe(`${form.name}, ${cpus} vCPU${cpus > 1 ? "s" : ""}`, () => checks(form, cpus));
    }
  }
});
