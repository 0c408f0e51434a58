// SPDX-License-Identifier: Apache-2.0
/** unpackKernel: its cache, its index, and what it does with files that are no compressed bzImage. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  appendFile,
  copyFile,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ensureKernel } from "../../harness/kernels.js";
import { VmmError } from "../../src/errors.js";
import { Payload, probe, unpack, VmmhpcPayloadInfo } from "../../src/ffi/unpack.js";
import { unpackKernel } from "../../src/vmm/unpack.js";

const run = promisify(execFile);
let kernel: string;
let directory: string;
let cacheDir: string;

beforeAll(async () => {
  kernel = (await ensureKernel("cloud")).bzImage;
  const age = Date.now() - (await stat(kernel)).ctimeMs; // fetched just now? let it become indexable
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, 2500 - age)));
}, 300_000);
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "v3m-unpack-"));
  cacheDir = join(directory, "cache");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A copy whose time stamps are old enough for the index. */
async function oldCopy(name = "vmlinuz"): Promise<string> {
  const path = join(directory, name);
  await copyFile(kernel, path);
  await utimes(path, 1_700_000_000, 1_700_000_000);
  return path;
}

describe("unpackKernel", () => {
  it("unpacks a Debian kernel to an ELF file of the size that the bzImage announces", async () => {
    const vmlinux = await unpackKernel(kernel, { cacheDir });
    const info = probe(await readFile(kernel));
    expect([Payload.LZ4, Payload.XZ, Payload.GZIP, Payload.ZSTD]).toContain(info.format);
    expect(BigInt((await stat(vmlinux)).size)).toBe(info.bytes);
    expect((await readFile(vmlinux)).subarray(0, 4).toString("latin1")).toBe("\x7fELF");
    expect((await readdir(cacheDir)).filter((name) => name.includes(".tmp-"))).toEqual([]);
  });

  it("leaves the event loop free while it unpacks", async () => {
    const image = await readFile(kernel);
    const file = await open(join(directory, "vmlinux"), "wx");
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await unpack(image, file.fd, 1n << 30n);
    clearInterval(timer);
    await file.close();
    expect(ticks).toBeGreaterThan(3);
  });

  it("finds the same content under another name, and does not unpack it again", async () => {
    const first = await unpackKernel(await oldCopy("a"), { cacheDir });
    const { ino } = await stat(first);
    expect(await unpackKernel(await oldCopy("b"), { cacheDir })).toBe(first);
    expect((await stat(first)).ino).toBe(ino);
  });

  it("works twenty times at once, in one process and in several", async () => {
    const paths = await Promise.all(Array.from({ length: 20 }, () => unpackKernel(kernel, { cacheDir })));
    expect(new Set(paths).size).toBe(1);
    const library = fileURLToPath(new URL("../../dist/src/vmm/unpack.js", import.meta.url));
    if (await stat(library).catch(() => undefined)) {
      const other = join(directory, "other");
      const script = `import(${JSON.stringify(library)}).then(async (m) =>
        console.log(await m.unpackKernel(${JSON.stringify(kernel)}, { cacheDir: ${JSON.stringify(other)} })))`;
      const results = await Promise.all([0, 1].map(() => run(process.execPath, ["-e", script])));
      expect(new Set(results.map((result) => result.stdout)).size).toBe(1);
      expect((await readdir(other)).filter((name) => name.endsWith(".elf"))).toHaveLength(1);
    }
  }, 30_000);
});

describe("the index of unpackKernel", () => {
  // The ctime of a fresh file is always young: only the installed kernel is old enough.
  const index = () => readdir(join(cacheDir, "index")).catch(() => []);

  it("remembers an old file, and does without reading it", async () => {
    const first = await unpackKernel(kernel, { cacheDir });
    expect(await index()).toHaveLength(1);
    // The proof: an index that names another content is believed.
    const other = "0".repeat(64);
    await copyFile(first, join(cacheDir, `${other}.elf`));
    const path = join(cacheDir, "index", (await index())[0] ?? "");
    await writeFile(path, (await readFile(path, "utf8")).replace(/[0-9a-f]{64}/, other));
    expect(await unpackKernel(kernel, { cacheDir })).toBe(join(cacheDir, `${other}.elf`));
  });

  it("does not remember a file that was changed just now", async () => {
    await unpackKernel(await oldCopy(), { cacheDir });
    expect(await index()).toEqual([]);
  });

  it("is not believed where it is damaged or points to nothing", async () => {
    const first = await unpackKernel(kernel, { cacheDir });
    const [name] = await index();
    await writeFile(join(cacheDir, "index", name ?? ""), "nonsense");
    expect(await unpackKernel(kernel, { cacheDir })).toBe(first);
    await rm(first);
    expect(await unpackKernel(kernel, { cacheDir })).toBe(first);
    expect((await stat(first)).size).toBeGreaterThan(1 << 20);
  });

  it("is not misled by a file changed in place with its time stamps put back", async () => {
    const path = await oldCopy();
    const first = await unpackKernel(path, { cacheDir });
    await appendFile(path, randomBytes(16)); // behind the code: another content, still a good kernel
    await utimes(path, 1_700_000_000, 1_700_000_000);
    expect(await unpackKernel(path, { cacheDir })).not.toBe(first);
  });
});

describe("unpackKernel and other files", () => {
  it("gives the path back for what is no bzImage", async () => {
    const vmlinux = await unpackKernel(kernel, { cacheDir });
    expect(await unpackKernel(vmlinux, { cacheDir })).toBe(vmlinux);
    const text = join(directory, "text");
    await writeFile(text, "no kernel");
    expect(await unpackKernel(text, { cacheDir })).toBe(text);
    expect(await unpackKernel(directory, { cacheDir })).toBe(directory);
  });

  it.each([
    ["LZMA", Buffer.from([0x5d, 0, 0, 0x80, 0]), "E_UNSUPPORTED", /packed with LZMA/],
    ["bzip2", Buffer.from("BZh91AY"), "E_UNSUPPORTED", /packed with bzip2/],
    ["garbage", Buffer.from("garbage"), "E_BAD_IMAGE", /no known compression/],
  ])("refuses %s", async (_name, start, code, message) => {
    const image = await readFile(kernel);
    start.copy(image, 0x200 * ((image[0x1f1] ?? 0) + 1) + image.readUInt32LE(0x248));
    const path = join(directory, "vmlinuz");
    await writeFile(path, image);
    await expect(unpackKernel(path, { cacheDir })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
      hint: expect.any(String),
    });
    expect(await readdir(cacheDir).catch(() => [])).toEqual([]);
  });

  it("leaves nothing behind after a damaged or oversized kernel", async () => {
    const image = await readFile(kernel);
    image.fill(0x55, image.length >> 1, (image.length >> 1) + 4096);
    const path = join(directory, "vmlinuz");
    await writeFile(path, image);
    const failure = unpackKernel(path, { cacheDir });
    await expect(failure).rejects.toBeInstanceOf(VmmError);
    await expect(failure).rejects.toMatchObject({ code: expect.stringMatching(/E_BAD_IMAGE|E_TRUNCATED/) });
    await expect(unpackKernel(kernel, { cacheDir, maxBytes: 1000n })).rejects.toMatchObject({
      code: "E_LIMIT",
    });
    expect(await readdir(cacheDir)).toEqual([]);
  });

  it("says where it cannot write", async () => {
    const occupied = join(directory, "occupied");
    await writeFile(occupied, "");
    await expect(unpackKernel(kernel, { cacheDir: occupied })).rejects.toMatchObject({
      code: "E_IO",
      message: expect.stringContaining(occupied),
      hint: expect.stringContaining("XDG_CACHE_HOME"),
    });
  });

  it("says what is wrong with a truncated or absent file", async () => {
    const path = join(directory, "vmlinuz");
    await writeFile(path, (await readFile(kernel)).subarray(0, 1 << 20));
    await expect(unpackKernel(path, { cacheDir })).rejects.toMatchObject({ code: "E_TRUNCATED" });
    await expect(unpackKernel(join(directory, "absent"), { cacheDir })).rejects.toMatchObject({
      code: "E_IO",
      errno: "ENOENT",
    });
  });
});

it("struct vmmhpc_payload_info has the layout that the compiler gives it", async () => {
  const source = join(directory, "layout.c");
  const program = join(directory, "layout");
  await writeFile(
    source,
    `#include <stdio.h>
#include "vmmhpc_unpack.h"
int main(void) { printf("%zu %zu %zu %zu", sizeof(struct vmmhpc_payload_info),
offsetof(struct vmmhpc_payload_info, offset), offsetof(struct vmmhpc_payload_info, packed_bytes),
offsetof(struct vmmhpc_payload_info, bytes)); }`,
  );
  const include = fileURLToPath(new URL("../../native/include", import.meta.url));
  await run("cc", ["-I", include, "-o", program, source]);
  const { stdout } = await run(program);
  const { size, offsets } = VmmhpcPayloadInfo;
  expect(stdout).toBe([size, offsets.offset, offsets.packed_bytes, offsets.bytes].join(" "));
});
