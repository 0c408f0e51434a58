// SPDX-License-Identifier: Apache-2.0
/** The back end `VMM-HPC`: V3M's own monitor, one jailed process for each machine. */
import type { V3mBackendFactory } from "../../registry.js";

export const vmmHpcBackend: V3mBackendFactory = {
  type: "VMM-HPC",
  create: async (host) => {
    const { VmmHpcBackend } = await import("./backend.js");
    return new VmmHpcBackend(host);
  },
};
