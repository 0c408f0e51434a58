/** A testbed machine on QEMU, whatever its CPU: prepares images, restores or boots, runs one command, and goes. */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { TestbedError } from "../common/errors.js";
import { requireTool } from "../common/tools.js";
import { ensureKernel } from "../kernels.js";
import type { PrepareOptions, RunControl, RunRequest, TestbedKind, TestbedMachine } from "../testbed.js";
import { testbedImage } from "./image.js";
import { Qemu, type QemuOptions, type QemuProfile } from "./qemu.js";
import { BOOT_LIMIT_MS, RESTORE_LIMIT_MS, runSession } from "./session.js";
import { ensureSnapshot } from "./snapshot.js";

interface Prepared {
  readonly qemu: QemuOptions;
  /** Host directory that holds `<version>/` of the kernel's modules. */
  readonly modules: string;
}

export class QemuMachine implements TestbedMachine {
  constructor(
    readonly kind: TestbedKind,
    /** Decides late, since it may depend on the host; rejects with E_UNSUPPORTED if the host cannot do it. */
    private readonly profile: (cpus: number) => Promise<QemuProfile>,
  ) {}

  async prepare(options: PrepareOptions): Promise<void> {
    const { qemu } = await this.#images(options);
    if (usesSnapshots(qemu.profile)) await ensureSnapshot(qemu, options.log);
  }

  async run(request: RunRequest, control: RunControl): Promise<number> {
    const prepared = await this.#images(request);
    control.abort.throwIfAborted();
    const state = await this.#state(prepared.qemu, request, control.abort);
    control.abort.throwIfAborted();
    if (state) {
      const progress = { started: false };
      try {
        return await runOnce({ ...prepared.qemu, restore: state }, prepared, request, control, progress);
      } catch (error) {
        if (progress.started || control.abort.aborted) throw error;
        request.log(`cannot continue the saved machine, booting instead: ${String(error)}`);
        await rm(state, { force: true }).catch(() => {});
      }
    }
    return runOnce(prepared.qemu, prepared, request, control, { started: false });
  }

  async #images(options: PrepareOptions & { readonly outDir?: string }): Promise<Prepared> {
    if (options.cpus > 1) {
      options.log("more than one CPU is not reliable: nested KVM under emulation then tends to hang");
    }
    const qemu = await requireTool("qemu-system-x86_64", "qemu-system-x86");
    const profile = await this.profile(options.cpus);
    const kernel = await ensureKernel("generic", { log: options.log });
    const initramfs = await testbedImage(kernel, profile.kvmModules);
    const { memoryMiB, cpus, outDir } = options;
    return {
      qemu: {
        qemu,
        profile,
        kernel: kernel.bzImage,
        initramfs,
        memoryMiB,
        cpus,
        ...(outDir === undefined ? {} : { outDir }),
      },
      modules: dirname(kernel.modulesDir),
    };
  }

  /** A saved state to continue from; undefined if there shall be none or it cannot be made: booting always works. */
  async #state(options: QemuOptions, request: RunRequest, abort: AbortSignal): Promise<string | undefined> {
    if (!usesSnapshots(options.profile)) return undefined;
    try {
      return await ensureSnapshot(options, request.log, abort);
    } catch (error) {
      abort.throwIfAborted();
      if (error instanceof TestbedError) throw error; // The machine does not even boot.
      request.log(`cannot save the booted machine: ${String(error)}`);
      return undefined;
    }
  }
}

function usesSnapshots(profile: QemuProfile): boolean {
  return profile.snapshots && process.env.V3M_TESTBED_SNAPSHOT !== "0";
}

async function runOnce(
  options: QemuOptions,
  prepared: Prepared,
  request: RunRequest,
  control: RunControl,
  progress: { started: boolean },
): Promise<number> {
  request.log(options.restore ? "continuing the saved machine" : "booting the machine");
  const qemu = await Qemu.start(options);
  try {
    const startLimitMs = options.restore ? RESTORE_LIMIT_MS : BOOT_LIMIT_MS;
    const session = { request, control, modules: prepared.modules, startLimitMs };
    return await runSession(qemu, session, progress);
  } finally {
    await qemu.kill();
  }
}
