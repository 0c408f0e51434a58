// SPDX-License-Identifier: Apache-2.0
/**
 * Debian's gdb-minimal, unpacked into the cache: gdb without Python, small enough to be copied into the Intel machine,
 * which holds what is in the cache. `node dist/harness/minimal-gdb.js` fetches it, and prints its path.
 */
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir, cached, exists } from "./common/cache.js";
import { TestbedError } from "./common/errors.js";
import { requireTool, runTool } from "./common/tools.js";

const PACKAGE = "gdb-minimal";
const HINT = 'On Debian: run "apt-get update" as root and try again';

/** Where the program is, once it was fetched. */
export function minimalGdbPath(): string {
  return cacheDir(PACKAGE, "gdb");
}

/** The program, or undefined where it was not fetched. */
export async function cachedMinimalGdb(): Promise<string | undefined> {
  return (await exists(minimalGdbPath())) ? minimalGdbPath() : undefined;
}

/** Fetch it by apt, unless it is there. E_TOOL_MISSING, E_KERNEL_FETCH. */
export async function ensureMinimalGdb(): Promise<string> {
  await cached(cacheDir(PACKAGE), async (target) => {
    const aptGet = await requireTool("apt-get", "apt");
    const dpkgDeb = await requireTool("dpkg-deb", "dpkg");
    const work = join(target, "download");
    await mkdir(work, { recursive: true });
    // Run as root, apt would fetch as a user of its own, who cannot write to root's cache.
    const options = ["-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE];
    const fetched = await runTool(aptGet, options, { cwd: work });
    const deb = (await readdir(work)).find((name) => name.endsWith(".deb"));
    if (fetched.code !== 0 || deb === undefined) {
      const message = `cannot download ${PACKAGE}: ${fetched.stderr.trim()}`;
      throw new TestbedError("E_KERNEL_FETCH", message, { hint: HINT });
    }
    const unpacked = await runTool(dpkgDeb, ["-x", join(work, deb), work]);
    if (unpacked.code !== 0) {
      throw new TestbedError("E_KERNEL_FETCH", `cannot unpack ${deb}: ${unpacked.stderr.trim()}`);
    }
    await rename(join(work, "usr", "bin", "gdb"), join(target, "gdb"));
    await rm(work, { recursive: true });
  });
  return minimalGdbPath();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(await ensureMinimalGdb());
  } catch (error) {
    if (!(error instanceof TestbedError)) throw error;
    console.error(`${error.message} [${error.code}]\nhint: ${error.hint}`);
    process.exitCode = 1;
  }
}
