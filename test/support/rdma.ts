// SPDX-License-Identifier: Apache-2.0
/** Soft-RoCE in Linux guests: what a guest's initramfs needs for it, of Debian's kernel and of this host's packages. */
import { readdir, readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { requireTool, runTool } from "../../harness/common/tools.js";
import type { Entry } from "../../harness/initramfs.js";

/** For a guest with Debian's generic kernel. The last are what rdma_rxe asks the kernel for by name. */
export const RDMA_MODULES = ["virtio_net", "ib_uverbs", "rdma_rxe", "crc32_generic", "crc32_pclmul"] as const;

const VERBS = "/etc/libibverbs.d";
const PROVIDER = /^librxe-rdmav\d+\.so$/;

/** The libraries of a program, and the loader, at the paths by which they are found. */
async function libraries(path: string): Promise<string[]> {
  const { stdout } = await runTool(await requireTool("ldd", "libc-bin"), [path]);
  return [...stdout.toString().matchAll(/(\/\S+) \(0x/g)].map(([, library = ""]) => library);
}

/** `rdma` (iproute2), `ib_send_lat` (perftest) and the user-space driver (ibverbs-providers), with what they load. */
export async function rdmaFiles(): Promise<Entry[]> {
  const programs = await Promise.all(
    (
      [
        ["rdma", "iproute2"],
        ["ib_send_lat", "perftest"],
      ] as const
    ).map(([name, from]) => requireTool(name, from)),
  );
  const verbs =
    (await libraries(programs[1] ?? "")).find((library) => library.includes("libibverbs.so")) ?? "";
  // Debian's /lib leads to /usr/lib, where the library looks for drivers.
  const providers = await realpath(join(verbs, "../libibverbs"));
  const names = (await readdir(providers)).filter((name) => PROVIDER.test(name));
  const drivers = names.map((name) => join(providers, name));
  const needed = await Promise.all([...programs, ...drivers].map(libraries));
  const paths = new Set([...programs, ...drivers, join(VERBS, "rxe.driver"), ...needed.flat()]);
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
