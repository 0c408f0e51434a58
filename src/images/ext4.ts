// SPDX-License-Identifier: Apache-2.0
/**
 * ext4 file systems of a tree of files, without mounting anything. The same tree and the same ids give the same bytes:
 * mke2fs takes names in order, but its inodes have the host's times, so these are set afterwards.
 */
import { writeFile } from "node:fs/promises";
import { ImageError } from "./errors.js";
import { runTool, TOOLS } from "./tools.js";

export interface FileSystemOptions {
  /** A tar archive, or a directory. */
  readonly from: string;
  readonly kind: "tar" | "directory";
  /** Of an archive: patterns of names that are not taken, such as `./dev/*`. */
  readonly leaveOut?: readonly string[];
  /** The image, which is there already, and where in it the file system begins and how long it is (bytes). */
  readonly image: string;
  readonly offset: number;
  readonly bytes: number;
  readonly label: string;
  readonly uuid: string;
  readonly hashSeed: string;
  /** Of all files but their mtime, seconds since 1970. */
  readonly epoch: number;
  /** A directory for what is needed meanwhile. */
  readonly work: string;
  readonly signal?: AbortSignal | undefined;
}

/** $1 archive or directory, $2 kind, $3 for the tree, $4 image, $5 KiB, $6 names to leave out; options of mke2fs. */
const MAKE = `set -e
from=$1 kind=$2 tree=$3 image=$4 size=$5 out=$6
shift 6
if [ "$kind" = tar ]; then
  mkdir "$tree"
  tar -C "$tree" --numeric-owner --xattrs --xattrs-include='*' --exclude-from="$out" -xf "$from"
else
  tree=$from
fi
mke2fs -q -F -t ext4 -m 1 -d "$tree" "$@" "$image" "\${size}k"
`;

/** Free inodes of each group, `8669-16384, 16390`, as dumpe2fs lists them. */
function freeInodes(listing: string): readonly (readonly [first: number, last: number])[] {
  return [...listing.matchAll(/^ {2}Free inodes: (.+)$/gm)].flatMap(([, ranges = ""]) =>
    ranges.split(", ").map((range) => {
      const [first = 0, last = first] = range.trim().split("-").map(Number);
      return [first, last] as const;
    }),
  );
}

/** What sets the times of every inode in use to the epoch. */
function timeCommands(listing: string, epoch: number): string {
  const inodes = Number(/^Inode count:\s+(\d+)$/m.exec(listing)?.[1] ?? 0);
  if (inodes === 0) throw new ImageError("E_IO", "dumpe2fs does not know the file system that mke2fs made");
  const free = new Set<number>();
  for (const [first, last] of freeInodes(listing)) for (let i = first; i <= last; i++) free.add(i);
  const time = `@0x${epoch.toString(16)}`;
  const lines: string[] = [`sif <2> mtime ${time}`, `sif <11> mtime ${time}`];
  for (let inode = 2; inode <= inodes; inode++) {
    // 3 to 10 are the file system's own.
    if (free.has(inode) || (inode > 2 && inode < 11)) continue;
    for (const field of ["ctime", "atime", "crtime"]) lines.push(`sif <${inode}> ${field} ${time}`);
  }
  return `${lines.join("\n")}\n`;
}

/** @throws ImageError: E_IO with ENOSPC also where the files do not fit into `bytes`; AbortedError */
export async function makeFileSystem(options: FileSystemOptions): Promise<void> {
  const { image, offset, bytes, epoch, work, signal } = options;
  const env = { E2FSPROGS_FAKE_TIME: String(epoch) };
  const extended = `offset=${offset},hash_seed=${options.hashSeed},lazy_itable_init=0,nodiscard`;
  const mke2fs = ["-L", options.label, "-U", options.uuid, "-E", extended];
  const args = [
    options.from,
    options.kind,
    `${work}/tree`,
    image,
    String(bytes / 1024),
    `${work}/leave-out`,
    ...mke2fs,
  ];
  await writeFile(`${work}/leave-out`, (options.leaveOut ?? []).map((name) => `${name}\n`).join(""));
  try {
    await runTool("sh", ["-c", MAKE, "sh", ...args], { signal, env, asRoot: true });
  } catch (error) {
    if (error instanceof ImageError && /Could not allocate (block|inode)/.test(error.message)) {
      const what = `the files do not fit into a disk of ${Math.round(bytes / 2 ** 20)} MiB`;
      throw new ImageError("E_IO", what, { hint: "make it larger: --size", errno: "ENOSPC", cause: error });
    }
    throw error;
  }
  const device = offset === 0 ? image : `${image}?offset=${offset}`;
  const listing = await runTool("dumpe2fs", [device], { signal });
  await writeFile(`${work}/times`, timeCommands(listing, epoch));
  await runTool(TOOLS.debugfs, ["-w", "-f", `${work}/times`, device], { signal, env });
}
