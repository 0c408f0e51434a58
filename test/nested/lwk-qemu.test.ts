// SPDX-License-Identifier: Apache-2.0
/**
 * The lightweight kernel is not tied to V3M: plain QEMU boots the same lwk.elf by multiboot, with the launch module as
 * its initrd. There is no yod then: the application's output comes out of the serial port, files are not there.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { hostFacts } from "../../src/vmm/host.js";
import { buildLaunchModule, lightweightKernelPath } from "../../src/yod/index.js";
import { suite } from "../support/capabilities.js";
import { currentPlace } from "../support/places.js";
import { program } from "../support/yod.js";

/** QEMU emulates where it has no KVM that could run the kernel. */
const ACCELERATORS = currentPlace() === "host" ? ["tcg"] : ["kvm"];
/** Only against hangs. */
const HANG_MS = 180_000;

let directory: string;

/** What QEMU's guest wrote to its serial port, until it powered off. */
function underQemu(module: string, accelerator: string, cpus: number): Promise<string> {
  // As libvmmhpc does: XSAVE is hidden where it does not work in guests.
  const host = hostFacts().xsave_broken !== 0 ? "host,-xsave" : "host";
  const machine = ["-machine", "pc", "-accel", accelerator, "-cpu", accelerator === "kvm" ? host : "max"];
  const size = ["-smp", String(cpus), "-m", "128"];
  const boot = ["-kernel", lightweightKernelPath(), "-initrd", module];
  const quiet = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"];
  const child = spawn("qemu-system-x86_64", [...machine, ...size, ...boot, ...quiet], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
  }
  const timer = setTimeout(() => child.kill("SIGKILL"), HANG_MS);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(text.replaceAll("\r", ""));
      else reject(new Error(`QEMU ended with ${code ?? signal}:\n${text}`));
    });
  });
}

suite("the lightweight kernel under QEMU", { needs: [] }, () => {
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-lwk-qemu-"));
    expect(existsSync(lightweightKernelPath())).toBe(true);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  function moduleOf(name: string, ...args: string[]): string {
    const path = program(name);
    const file = readFileSync(path);
    const environment = { pid: 1, nodename: "lwk", countCalls: false, env: { A: "under QEMU" } };
    const module = join(directory, "module");
    writeFileSync(module, buildLaunchModule({ file, path, argv: [name, ...args], ...environment }));
    return module;
  }

  for (const accelerator of ACCELERATORS) {
    it.each([
      ["launched.musl", 1],
      ["launched.glibc-pie", 2],
    ] as const)("boots by multiboot, and %s runs on %i CPUs", async (name, cpus) => {
      const text = await underQemu(moduleOf(name, "show", "one", "two words"), accelerator, cpus);
      expect(text).toContain(`argument 0 <${name}>\nargument 1 <show>\nargument 2 <one>\n`);
      expect(text).toContain("variable <A=under QEMU>\n");
    });

    it("computes with threads", async () => {
      const text = await underQemu(moduleOf("heat.musl", "32", "10"), accelerator, 2);
      expect(text).toContain("4 threads: 1111, sum 49995000, critical 400, atomic 400\n");
    });

    it("says how an application crashed", async () => {
      const text = await underQemu(moduleOf("signals.musl", "segv"), accelerator, 1);
      expect(text).toContain("the end: segv\n");
      expect(text).toMatch(/signal 11|SIGSEGV|page fault/);
    });
  }
});
