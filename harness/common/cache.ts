/** The cache directory and atomic creation of entries in it. */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** `$XDG_CACHE_HOME/v3m`, by default `~/.cache/v3m`. Relative values of the variable are ignored, as XDG asks. */
export function cacheDir(...parts: string[]): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base?.startsWith("/") ? base : join(homedir(), ".cache"), "v3m", ...parts);
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * Returns `path`, calling `build(temporaryPath)` first if nothing is there yet. The result appears by rename, so
 * that a reader never sees half an entry and two builders at once do no harm: the first one wins.
 * `build` may create a file or a directory at the temporary path, which lies in the same directory.
 */
export async function cached(path: string, build: (temporary: string) => Promise<void>): Promise<string> {
  if (await exists(path)) return path;
  await mkdir(dirname(path), { recursive: true });
  await removeStaleTemporaries(dirname(path));
  const temporary = `${path}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    await build(temporary);
    await rename(temporary, path).catch(async (error: NodeJS.ErrnoException) => {
      // Only directories can collide: a file is simply replaced by an equal one.
      if (!(await exists(path))) throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return path;
}

/** A builder that was killed leaves its temporary entry behind; it is certainly dead after a day. */
async function removeStaleTemporaries(dir: string): Promise<void> {
  const dayAgo = Date.now() - 24 * 3600 * 1000;
  for (const name of await readdir(dir)) {
    if (!/\.tmp-\d+-[0-9a-f]{8}$/.test(name)) continue;
    const path = join(dir, name);
    const info = await stat(path).catch(() => undefined);
    if (info && info.mtimeMs < dayAgo) await rm(path, { recursive: true, force: true });
  }
}
