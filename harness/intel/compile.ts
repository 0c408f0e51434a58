/** Compiles the C parts of the machine: the agent that runs inside, and the saver that is loaded into Bochs. */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir, cached, exists } from "../common/cache.js";
import { TestbedError } from "../common/errors.js";
import { requireTool, runTool } from "../common/tools.js";
import { prune, touch } from "./prune.js";

const FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra"];
const PARTS = {
  agent: { files: ["agent.c", "channel.c", "job.c", "machine.c"], flags: ["-static", "-s"] },
  saver: { files: ["saver.c"], flags: ["-shared", "-fPIC", "-s"] },
} as const;

/** Path in the cache of a program (`agent`) or shared object (`saver`). E_TOOL_MISSING without a C compiler. */
export async function compileGuest(part: keyof typeof PARTS): Promise<string> {
  const directory = await sourceDirectory();
  const hash = createHash("sha256").update(JSON.stringify([PARTS[part], FLAGS]));
  for (const name of (await readdir(directory)).sort()) hash.update(await readFile(join(directory, name)));
  await prune(`${part}-`, 2);
  const target = cacheDir("intel", `${part}-${hash.digest("hex").slice(0, 16)}`);
  const path = await cached(target, async (temporary) => {
    const compiler = await requireTool("cc", "gcc libc6-dev");
    const { files, flags } = PARTS[part];
    const result = await runTool(compiler, [...FLAGS, ...flags, "-o", temporary, ...files], {
      cwd: directory,
    });
    if (result.code !== 0) {
      throw new TestbedError("E_BOOT", `cannot compile the machine's ${part}: ${result.stderr}`, {
        hint: "apt-get install gcc libc6-dev",
      });
    }
  });
  await touch(path);
  return path;
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
