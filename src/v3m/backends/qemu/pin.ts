// SPDX-License-Identifier: Apache-2.0
/** vCPU threads on the host CPUs that the definition names. */
import koffi from "koffi";
import { errnoName } from "../../../errors.js";
import type { Bound } from "../../../ffi/library.js";
import { HypervisorError } from "../errors.js";
import type { Qmp, QmpOptions } from "./qmp.js";

/** Of the kernel's CPU sets: CONFIG_NR_CPUS of distributions' kernels. */
const MAX_CPUS = 8192;

let setAffinity: Bound<(pid: number, bytes: number, mask: Uint8Array) => number> | undefined;

/** vCPU i takes element i modulo the length; nothing is done where there is none. @throws HypervisorError E_INVALID */
export async function pinVcpus(qmp: Qmp, pin: readonly number[], options: QmpOptions): Promise<void> {
  if (pin.length === 0) return;
  const cpus = await qmp.execute<{ "cpu-index": number; "thread-id": number }[]>(
    "query-cpus-fast",
    undefined,
    options,
  );
  for (const cpu of cpus) {
    const host = pin[cpu["cpu-index"] % pin.length] ?? 0;
    setAffinity ??= koffi.load(null).func("sched_setaffinity", "int", ["int", "size_t", "void *"]);
    const mask = new Uint8Array(MAX_CPUS / 8);
    if (host >= 0 && host < MAX_CPUS) mask[host >> 3] = 1 << (host & 7);
    if (setAffinity(cpu["thread-id"], mask.length, mask) !== 0) {
      const errno = errnoName(koffi.errno());
      throw new HypervisorError(
        "E_INVALID",
        `cannot pin vCPU ${cpu["cpu-index"]} to host CPU ${host}: ${errno}`,
        {
          hint: "lscpu lists the CPUs of this host; cgroups may forbid some",
          errno,
          value: BigInt(host),
        },
      );
    }
  }
}
