/** Compiles the C parts of the machine: the agent that runs inside, and the saver that is loaded into Bochs. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists } from "../common/cache.js";
import { TestbedError } from "../common/errors.js";
import { requireTool, runTool } from "../common/tools.js";

const FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra"];
const PARTS = {
  agent: { files: ["agent.c", "channel.c", "job.c", "machine.c"], flags: ["-static", "-s"] },
  saver: { files: ["saver.c"], flags: ["-shared", "-fPIC", "-s"] },
} as const;

/** All files that the results depend on, in a fixed order. */
export async function guestSources(): Promise<string[]> {
  const directory = await sourceDirectory();
  return (await readdir(directory)).sort().map((name) => join(directory, name));
}

/** Program (`agent`) or shared object (`saver`) as bytes. E_TOOL_MISSING without a C compiler. */
export async function compileGuest(part: keyof typeof PARTS): Promise<Buffer> {
  const compiler = await requireTool("cc", "gcc libc6-dev");
  const directory = await sourceDirectory();
  const work = await mkdtemp(join(tmpdir(), "v3m-cc-"));
  try {
    const output = join(work, part);
    const { files, flags } = PARTS[part];
    const result = await runTool(compiler, [...FLAGS, ...flags, "-o", output, ...files], { cwd: directory });
    if (result.code !== 0) {
      throw new TestbedError("E_BOOT", `cannot compile the machine's ${part}: ${result.stderr}`, {
        hint: "apt-get install gcc libc6-dev",
      });
    }
    return await readFile(output);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The C files are not copied to dist/: from there, too, those of the checkout are used. */
async function sourceDirectory(): Promise<string> {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    for (const candidate of [join(dir, "guest"), join(dir, "harness", "intel", "guest")]) {
      if (await exists(join(candidate, "agent.c"))) return candidate;
    }
    if (dir === dirname(dir)) throw new TestbedError("E_BOOT", "the sources of the agent are not installed");
  }
}
