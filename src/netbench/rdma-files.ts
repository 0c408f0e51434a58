// SPDX-License-Identifier: Apache-2.0
/** Soft-RoCE in Linux guests: what a guest's initramfs needs for it, of Debian's kernel and of this host's packages. */
import { readdir, readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { TestbedError } from "../../harness/common/errors.js";
import { requireTool, runTool } from "../../harness/common/tools.js";
import type { Entry } from "../../harness/initramfs.js";
import { ensureKernel, resolveModules } from "../../harness/kernels.js";

/** For a guest with Debian's generic kernel. The last are what rdma_rxe asks the kernel for by name. */
export const RDMA_MODULES = ["virtio_net", "ib_uverbs", "rdma_rxe", "crc32_generic", "crc32_pclmul"] as const;

/** Where a guest has `rdma` and perftest. */
export const RDMA_PATH = "/bin:/usr/bin:/sbin";

const VERBS = "/etc/libibverbs.d";
const PROVIDER = /^librxe-rdmav\d+\.so$/;

/** The libraries of a program, and the loader, at the paths by which they are found. */
async function libraries(path: string): Promise<string[]> {
  const { stdout } = await runTool(await requireTool("ldd", "libc-bin"), [path]);
  return [...stdout.toString().matchAll(/(\/\S+) \(0x/g)].map(([, library = ""]) => library);
}

/** The user-space driver of rdma_rxe, which libibverbs loads. @throws TestbedError */
async function drivers(perftest: string): Promise<string[]> {
  const verbs = (await libraries(perftest)).find((library) => library.includes("libibverbs.so")) ?? "";
  // Debian's /lib leads to /usr/lib, where the library looks for drivers.
  const directory = await realpath(join(verbs, "../libibverbs")).catch(() => "");
  const names = await readdir(directory).catch(() => [] as string[]);
  const found = names.filter((name) => PROVIDER.test(name)).map((name) => join(directory, name));
  if (found.length > 0) return found;
  throw new TestbedError("E_TOOL_MISSING", "there is no driver of soft-RoCE for libibverbs", {
    hint: "apt-get install ibverbs-providers",
  });
}

/**
 * `rdma` (iproute2), perftest's programs and the user-space driver (ibverbs-providers), with what they load.
 * @throws TestbedError E_TOOL_MISSING, with the package in its hint
 */
export async function rdmaFiles(): Promise<Entry[]> {
  const rdma = await requireTool("rdma", "iproute2");
  const latency = await requireTool("ib_send_lat", "perftest");
  const bandwidth = await requireTool("ib_send_bw", "perftest");
  const programs = [rdma, latency, bandwidth, ...(await drivers(latency))];
  const needed = await Promise.all(programs.map(libraries));
  const paths = new Set([...programs, join(VERBS, "rxe.driver"), ...needed.flat()]);
  return await Promise.all(
    [...paths].map(
      async (path): Promise<Entry> => ({
        type: "file",
        path: path.slice(1),
        data: await readFile(path),
        mode: 0o755,
      }),
    ),
  );
}

/** The measuring program of this host's, as results name it: `perftest 6.06`. @throws TestbedError */
export async function perftestName(): Promise<string> {
  const { stdout } = await runTool(await requireTool("ib_send_lat", "perftest"), ["--version"]);
  return `perftest ${/[\d.]+/.exec(stdout.toString())?.[0] ?? ""}`.trim();
}

/** Why guests with Debian's generic kernel and this host's packages have no verbs, or undefined. */
export async function rdmaRefusal(): Promise<string | undefined> {
  try {
    await rdmaFiles();
    const kernel = await ensureKernel("generic");
    const found = (await resolveModules(kernel, ["rdma_rxe"])).length > 0;
    return found ? undefined : `Linux ${kernel.version} has no module rdma_rxe`;
  } catch (error) {
    if (!(error instanceof TestbedError)) throw error;
    return error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
  }
}
