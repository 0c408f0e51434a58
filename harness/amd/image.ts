/** The initramfs of the machine: busybox, the modules that it needs, and the agent. */
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { TestbedError } from "../common/errors.js";
import { requireTool, runTool } from "../common/tools.js";
import { busyboxEntries, cpio, type Entry, storeImage } from "../initramfs.js";
import { type GuestKernel, resolveModules } from "../kernels.js";
import { AGENT, MODULES } from "./agent.js";

/** Programs that unpack modules, by file suffix; Debian 12 ships them plain, Debian 13 as xz. */
const UNPACKERS: Record<string, readonly [string, string]> = {
  ".xz": ["xz", "xz-utils"],
  ".zst": ["zstd", "zstd"],
  ".gz": ["gzip", "gzip"],
};

/** Builds (or finds) the image for a kernel; `kvmModule` is `kvm_amd` or `kvm_intel`. Returns its path. */
export async function testbedImage(kernel: GuestKernel, kvmModules: readonly string[]): Promise<string> {
  const files = await resolveModules(kernel, [...MODULES, ...kvmModules]);
  const modules: Entry[] = [];
  const order: string[] = [];
  for (const file of files) {
    const suffix = /\.ko(\.\w+)?$/.exec(file)?.[1] ?? "";
    const name = basename(file, suffix);
    order.push(name);
    modules.push({
      type: "file",
      path: `modules/${name}`,
      data: await plainModule(join(kernel.modulesDir, file), suffix),
    });
  }
  const image = cpio([
    ...(await busyboxEntries()),
    ...modules,
    { type: "file", path: "modules/order", data: Buffer.from(`${order.join("\n")}\n`) },
    { type: "file", path: "init", data: Buffer.from(AGENT), mode: 0o755 },
  ]);
  return storeImage("testbed", image);
}

/** Unpacked here, once, and not in the machine at each start. */
async function plainModule(path: string, suffix: string): Promise<Buffer> {
  if (suffix === "") return readFile(path);
  const [program, debianPackage] = UNPACKERS[suffix] ?? [];
  if (!program || !debianPackage) {
    throw new TestbedError("E_KERNEL_FETCH", `${path} is packed in an unknown way`);
  }
  const result = await runTool(await requireTool(program, debianPackage), ["-dc", path]);
  if (result.code !== 0) {
    throw new TestbedError("E_KERNEL_FETCH", `cannot unpack ${path}: ${result.stderr}`);
  }
  return result.stdout;
}
