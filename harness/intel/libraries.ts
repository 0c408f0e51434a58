/** Which shared libraries programs need, as this host's dynamic loader finds them. */
import { open } from "node:fs/promises";
import { requireTool, runTool } from "../common/tools.js";

const ELF_MAGIC = Buffer.from("\x7fELF", "latin1");

/** Paths of the libraries of all these files, the loader included. Files that are not dynamic ELF files have none. */
export async function librariesOf(files: readonly string[]): Promise<string[]> {
  const elves: string[] = [];
  for (const file of files) if (await isElf(file)) elves.push(file);
  if (elves.length === 0) return [];
  const ldd = await requireTool("ldd", "libc-bin");
  const { stdout } = await runTool(ldd, elves);
  const found = new Set<string>();
  // "libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x...)" and "/lib64/ld-linux-x86-64.so.2 (0x...)"
  for (const line of stdout.toString().split("\n")) {
    const match = /^\s+(?:\S+ => )?(\/.*) \(0x[0-9a-f]+\)$/.exec(line);
    if (match?.[1]) found.add(match[1]);
  }
  return [...found];
}

async function isElf(path: string): Promise<boolean> {
  const file = await open(path, "r").catch(() => undefined);
  if (!file) return false;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return bytesRead === 4 && buffer.equals(ELF_MAGIC);
  } catch {
    return false; // a directory
  } finally {
    await file.close();
  }
}
