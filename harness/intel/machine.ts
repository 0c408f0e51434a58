/** Prepares images, boots Bochs, runs one command, and goes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ensureKernel } from "../kernels.js";
import type { PrepareOptions, RunControl, RunRequest, TestbedMachine } from "../testbed.js";
import { Bochs, type BochsOptions, type BochsTools, findBochs } from "./bochs.js";
import { bootDisk } from "./boot-disk.js";
import { deriveState, ensureState, type SavedState } from "./saved.js";
import { encodeJob, Scratch } from "./scratch.js";
import { BOOT_LIMIT_MS, RESTORE_LIMIT_MS, Session } from "./session.js";
import { systemImage, treeImage } from "./tree-image.js";

/** Bochs keeps all of the machine's memory in one array whose size it counts with 32 bits. */
const MAX_MEMORY_MIB = 2048;

/** What is the same for a first try with a saved machine and a second one with a boot. */
interface Plan {
  readonly tools: BochsTools;
  readonly memoryMiB: number;
  readonly boot: string;
  readonly system: string;
  readonly tree: string;
  /** Directory inside that is to be /lib/modules. */
  readonly modules: string;
}

export class IntelMachine implements TestbedMachine {
  readonly kind = "intel";

  async prepare(options: PrepareOptions): Promise<void> {
    const { log } = options;
    const tools = await findBochs();
    const boot = await bootDisk(await ensureKernel("cloud", { log }));
    await systemImage(log);
    if (usesStates()) await ensureState({ tools, boot, log, memoryMiB: memoryOf(options, log) });
  }

  async run(request: RunRequest, control: RunControl): Promise<number> {
    const { log } = request;
    if (request.cpus > 1) log("the Intel machine has one CPU");
    const memoryMiB = memoryOf(request, log);
    const tools = await findBochs();
    const kernel = await ensureKernel("cloud", { log });
    const boot = await bootDisk(kernel);
    const [system, tree] = await Promise.all([systemImage(log), treeImage(request)]);
    control.abort.throwIfAborted();

    const plan: Plan = { tools, memoryMiB, boot, system, tree, modules: dirname(kernel.modulesDir) };
    const state = await this.#state(plan, request, control);
    control.abort.throwIfAborted();
    if (state) {
      const progress = { started: false };
      try {
        return await runOnce(plan, request, control, progress, state);
      } catch (error) {
        if (progress.started || control.abort.aborted) throw error;
        log(`cannot continue the saved machine, booting instead: ${String(error)}`);
        await rm(state.directory, { recursive: true, force: true }).catch(() => {});
      }
    }
    return runOnce(plan, request, control, { started: false });
  }

  /** A saved state to continue from; undefined if there shall be none or it cannot be made: booting always works. */
  async #state(plan: Plan, request: RunRequest, control: RunControl): Promise<SavedState | undefined> {
    if (!usesStates()) return undefined;
    try {
      return await ensureState({ ...plan, log: request.log, abort: control.abort });
    } catch (error) {
      control.abort.throwIfAborted();
      request.log(`cannot save the booted machine: ${String(error)}`);
      return undefined;
    }
  }
}

function memoryOf({ memoryMiB }: PrepareOptions, log: (message: string) => void): number {
  if (memoryMiB <= MAX_MEMORY_MIB) return memoryMiB;
  log(`the Intel machine has at most ${MAX_MEMORY_MIB} MiB of memory`);
  return MAX_MEMORY_MIB;
}

function usesStates(): boolean {
  return process.env.V3M_TESTBED_SNAPSHOT !== "0";
}

async function runOnce(
  plan: Plan,
  request: RunRequest,
  control: RunControl,
  progress: { started: boolean },
  state?: SavedState,
): Promise<number> {
  const job = encodeJob({ request, modules: plan.modules });
  const directory = await mkdtemp(join(tmpdir(), "v3m-bochs-"));
  let scratch: Scratch | undefined;
  let bochs: Bochs | undefined;
  try {
    scratch = await Scratch.create(join(directory, "scratch"), job);
    const { boot, system, tree } = plan;
    const fresh: BochsOptions = {
      memoryMiB: plan.memoryMiB,
      disks: { boot, system, tree },
      scratch: scratch.path,
      directory,
    };
    let options = fresh;
    if (state) {
      const restore = join(directory, "state");
      await deriveState(state, restore, fresh);
      options = { ...fresh, restore, preload: state.preload, env: state.env };
    }
    request.log(state ? "continuing the saved machine" : "booting the machine");
    bochs = await Bochs.start(plan.tools, options);
    const startLimitMs = state ? RESTORE_LIMIT_MS : BOOT_LIMIT_MS;
    return await new Session(bochs, { request, control, scratch, startLimitMs, progress }).run();
  } finally {
    await bochs?.kill();
    await scratch?.close();
    await rm(directory, { recursive: true, force: true });
  }
}
