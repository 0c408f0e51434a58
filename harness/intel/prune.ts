/** Keeps the Intel machine's part of the cache small: a tree that people work in makes a new image at every change. */
import { readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../common/cache.js";

/** What was used so recently may be about to be opened by another run. Once open, it may be removed. */
const RECENT_MS = 15 * 60 * 1000;

/** Marks an entry as used now. A cache that cannot be written to is fine. */
export async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => {});
}

/** Removes all but the `keep` last used entries whose names begin with `prefix`. */
export async function prune(prefix: string, keep: number): Promise<void> {
  const parent = cacheDir("intel");
  const entries: { path: string; used: number }[] = [];
  for (const name of await readdir(parent).catch(() => [] as string[])) {
    if (!name.startsWith(prefix) || name.includes(".tmp-")) continue;
    const path = join(parent, name);
    const info = await stat(path).catch(() => undefined);
    if (info) entries.push({ path, used: info.mtimeMs });
  }
  entries.sort((a, b) => b.used - a.used);
  const limit = Date.now() - RECENT_MS;
  for (const { path, used } of entries.slice(keep)) {
    if (used < limit) await rm(path, { recursive: true, force: true });
  }
}
