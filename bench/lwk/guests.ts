// SPDX-License-Identifier: Apache-2.0
/** The two guests of this benchmark, of the same size on the same VMM, and what is observed of them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { GUEST_READY, guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";
import { packageRoot } from "../../src/ffi/library.js";
import { type Captured, capture } from "../../src/measure/capture.js";
import { Machine, unpackKernel } from "../../src/vmm/index.js";
import type { LaunchOptions } from "../../src/yod/index.js";

export const MEMORY_MIB = 128;
export const COMMAND_LINE = "console=ttyS0 quiet";
/** Against hangs only. */
const TIMEOUT_MS = 600_000;

/** The program that both run: test/programs/compute.c. */
export const program = () => join(packageRoot(), "test/programs/build/compute.glibc");

/** The program on the lightweight kernel. @throws where it does not exit with 0 */
export function onLwk(args: readonly string[], options: Partial<LaunchOptions> = {}): Promise<Captured> {
  return capture({
    app: program(),
    memory: MEMORY_MIB << 20,
    timeoutMs: TIMEOUT_MS,
    ...options,
    args,
  });
}

/** What the Linux guest boots, found or made where there is a network. */
export interface LinuxFiles {
  readonly version: string;
  readonly vmlinux: string;
  readonly initramfs: string;
}

export async function prepareLinux(): Promise<LinuxFiles> {
  const kernel = await ensureKernel("cloud");
  const data = readFileSync(program());
  const file = { type: "file" as const, path: "bin/compute", data, mode: 0o755 };
  return {
    version: kernel.version,
    vmlinux: await unpackKernel(kernel.bzImage),
    initramfs: await guestInitramfs({ extraFiles: [file] }),
  };
}

/** Guest-caused exits of each vCPU and the time, when a line appeared on the console. */
export interface Moment {
  readonly ns: bigint;
  readonly exits: readonly number[];
}

export interface LinuxRun {
  readonly text: string;
  readonly firstRunNs: bigint;
  /** When its first user-space line was there. */
  readonly ready: Moment;
  /** When each of the awaited texts was there. */
  readonly moments: readonly Moment[];
}

/** Boot Linux with a command, and note when its output shows each of some texts, in that order. */
export async function inLinux(
  files: LinuxFiles,
  command: string,
  awaited: readonly string[] = [],
  cpus = 1,
): Promise<LinuxRun> {
  const machine = await Machine.create({
    kernel: files.vmlinux,
    initrd: files.initramfs,
    cmdline: `${COMMAND_LINE} v3m.run="${command}"`,
    memory: MEMORY_MIB << 20,
    cpus,
  });
  try {
    let text = "";
    let from = 0;
    const expected = [GUEST_READY, ...awaited];
    const moments: Moment[] = [];
    machine.console.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      for (let next = expected[moments.length]; next !== undefined; next = expected[moments.length]) {
        const at = text.indexOf(next, from);
        if (at < 0) break;
        from = at + next.length;
        const exits = machine.kvmStats().vcpus.map((vcpu) => (vcpu.exits ?? 0) - (vcpu.irq_exits ?? 0));
        moments.push({ ns: process.hrtime.bigint(), exits });
      }
    });
    const drained = new Promise<void>((resolve) => {
      for (const event of ["end", "close"]) machine.console.once(event, resolve);
    });
    machine.start();
    await machine.wait(TIMEOUT_MS);
    await drained;
    const [ready, ...rest] = moments;
    if (ready === undefined || rest.length !== awaited.length) {
      throw new Error(`the Linux guest did not show ${expected[moments.length]}:\n${text.slice(-1000)}`);
    }
    return {
      text: text.replaceAll("\r", ""),
      firstRunNs: machine.stats().firstRunNs,
      ready,
      moments: rest,
    };
  } finally {
    await machine.dispose();
  }
}
