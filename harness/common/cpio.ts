/** A writer for the cpio "newc" format, the one Linux unpacks as initramfs. Output depends on the input only. */

export type Entry =
  | { readonly type: "file"; readonly path: string; readonly data: Uint8Array; readonly mode?: number }
  | { readonly type: "dir"; readonly path: string; readonly mode?: number }
  | { readonly type: "link"; readonly path: string; readonly target: string }
  | {
      readonly type: "char";
      readonly path: string;
      readonly major: number;
      readonly minor: number;
      readonly mode?: number;
    };

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

/** Builds an archive. Missing parent directories are added; all belongs to root with time 0. */
export function cpio(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  let inode = 0;
  for (const entry of withParents(entries)) {
    inode += 1;
    parts.push(record(entry, inode));
  }
  parts.push(member({ name: "TRAILER!!!", inode: 0, mode: 0, data: Buffer.alloc(0), major: 0, minor: 0 }));
  return Buffer.concat(parts);
}

function withParents(entries: readonly Entry[]): Entry[] {
  const result: Entry[] = [];
  const present = new Set(entries.filter((entry) => entry.type === "dir").map((entry) => trim(entry.path)));
  const added = new Set<string>();
  for (const entry of entries) {
    const segments = trim(entry.path).split("/");
    for (let depth = 1; depth < segments.length; depth++) {
      const path = segments.slice(0, depth).join("/");
      if (present.has(path) || added.has(path)) continue;
      added.add(path);
      result.push({ type: "dir", path });
    }
    result.push(entry);
  }
  return result;
}

function trim(path: string): string {
  return path.replace(/^\/+|\/+$/g, "");
}

interface Member {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly data: Uint8Array;
  readonly major: number;
  readonly minor: number;
}

function record(entry: Entry, inode: number): Buffer {
  const base = { name: trim(entry.path), inode, data: Buffer.alloc(0), major: 0, minor: 0 };
  switch (entry.type) {
    case "file":
      return member({ ...base, mode: S_IFREG | (entry.mode ?? 0o644), data: entry.data });
    case "dir":
      return member({ ...base, mode: S_IFDIR | (entry.mode ?? 0o755) });
    case "link":
      return member({ ...base, mode: S_IFLNK | 0o777, data: Buffer.from(entry.target) });
    case "char":
      return member({
        ...base,
        mode: S_IFCHR | (entry.mode ?? 0o600),
        major: entry.major,
        minor: entry.minor,
      });
  }
}

function member(m: Member): Buffer {
  const name = Buffer.from(`${m.name}\0`);
  // Order: inode, mode, uid, gid, nlink, mtime, size, dev major/minor, rdev major/minor, name size, checksum.
  const fields = [m.inode, m.mode, 0, 0, 1, 0, m.data.length, 0, 0, m.major, m.minor, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  // Name and data each end on a multiple of four bytes from the start of the header.
  return Buffer.concat([
    Buffer.from(header),
    name,
    padding(header.length + name.length),
    m.data,
    padding(m.data.length),
  ]);
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
