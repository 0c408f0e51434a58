/**
 * Saved states of booted machines. A state holds the machine just before its agent looks for disks; continuing it
 * replaces the boot. Everything in it is emulated, so it fits any computer with the same Bochs. See README.md for
 * what it gains, and guest/saver.c for how it is made.
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheDir, cached, exists } from "../common/cache.js";
import { TestbedError } from "../common/errors.js";
import { Bochs, type BochsOptions, type BochsTools, configuration } from "./bochs.js";
import { compileGuest } from "./compile.js";
import { prune, touch } from "./prune.js";
import { BOOT_LIMIT_MS } from "./session.js";

/** Bochs wants whole cylinders; this one stands for a disk that is not there yet. */
const EMPTY_DISK_SIZE = 16 * 63 * 512;
/** States that stay in the cache: one for each size of memory in use. */
const KEEP = 4;

export interface StateOptions {
  readonly tools: BochsTools;
  readonly memoryMiB: number;
  readonly boot: string;
  readonly log: (message: string) => void;
  readonly abort?: AbortSignal;
}

/** A saved machine, and what must be loaded into Bochs, with which variables, to continue it quickly. */
export interface SavedState {
  readonly directory: string;
  readonly preload: string;
  readonly env: Readonly<Record<string, string>>;
}

/** The state for these options, made first if necessary, which takes as long as a boot. */
export async function ensureState(options: StateOptions): Promise<SavedState> {
  const preload = await compileGuest("saver");
  const directory = await statePath(options);
  if (await exists(directory)) {
    await touch(directory);
  } else {
    await prune("state-", KEEP);
    await cached(directory, async (temporary) => {
      options.log("booting once, to save the booted machine");
      await save(options, preload, temporary);
    });
  }
  return { directory, preload, env: { V3M_MEMORY: join(directory, MEMORY) } };
}

/** The state's file that holds the machine's memory. */
const MEMORY = "memory.ram";

/**
 * Makes `directory` a state to continue with other disks: links to the files of the saved state, and a configuration
 * of its own.
 */
export async function deriveState(
  state: SavedState,
  directory: string,
  options: BochsOptions,
): Promise<void> {
  await mkdir(directory);
  for (const name of await readdir(state.directory)) {
    if (name !== "config" && name !== MEMORY) {
      await symlink(join(state.directory, name), join(directory, name));
    }
  }
  await writeFile(join(directory, MEMORY), "");
  await writeFile(join(directory, "config"), configuration(options));
}

async function statePath({ tools, memoryMiB, boot }: StateOptions): Promise<string> {
  const { size, mtimeMs } = await stat(tools.program);
  const none = { boot, system: "", tree: "" };
  const config = configuration({ memoryMiB, disks: none, scratch: "", directory: "" });
  const hash = createHash("sha256")
    .update(JSON.stringify([size, mtimeMs, config]))
    .digest("hex");
  return cacheDir("intel", `state-${hash.slice(0, 16)}`);
}

async function save(options: StateOptions, preload: string, target: string): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "v3m-bochs-"));
  let bochs: Bochs | undefined;
  let timer: NodeJS.Timeout | undefined;
  let onAbort = (): void => {};
  try {
    await mkdir(target);
    const empty = join(directory, "empty");
    const scratch = join(directory, "scratch");
    for (const path of [empty, scratch]) await writeFile(path, Buffer.alloc(EMPTY_DISK_SIZE));
    const machine = await Bochs.start(options.tools, {
      memoryMiB: options.memoryMiB,
      disks: { boot: options.boot, system: empty, tree: empty },
      scratch,
      directory,
      preload,
      env: { V3M_SAVE: target },
    });
    bochs = machine;
    machine.output.resume();
    const code = await new Promise<number | null>((resolve, reject) => {
      onAbort = () => reject(options.abort?.reason);
      if (options.abort?.aborted) onAbort();
      options.abort?.addEventListener("abort", onAbort, { once: true });
      machine.exited.then(resolve, reject);
      const late = (): void => reject(new TestbedError("E_BOOT", "the machine did not boot in time"));
      timer = setTimeout(late, BOOT_LIMIT_MS);
    });
    if (code !== 0) throw new TestbedError("E_BOOT", `Bochs could not save the machine: ${machine.errors}`);
    await forgetDisks(target);
  } finally {
    clearTimeout(timer);
    options.abort?.removeEventListener("abort", onAbort);
    await bochs?.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

/** The state's copies of the disks would be written over those of the run. The saved machine has not seen any disk. */
async function forgetDisks(directory: string): Promise<void> {
  const file = join(directory, "hard_drive");
  const text = await readFile(file, "utf8");
  await writeFile(file, text.replaceAll("image = true", "image = false"));
  for (const name of await readdir(directory)) {
    if (name.startsWith("hard_drive.") && name.endsWith(".image")) await rm(join(directory, name));
  }
}
