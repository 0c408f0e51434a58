// SPDX-License-Identifier: Apache-2.0
/** What of a back end a definition needs: the rows of its capability matrix that must not say no. */
import type { Feature } from "../../vmm/backend.js";
import type { VmDefinition } from "./types.js";

/** In the order of the matrix, each once. */
export function featuresOf(definition: VmDefinition): Feature[] {
  const { boot, disks, nics, memory, performance } = definition;
  const wanted: (Feature | false)[] = [
    `boot:${boot.from}`,
    definition.topology !== undefined && "topology",
    definition.pin.length > 0 && "pin",
    memory.backing.startsWith("huge-") && "hugepages",
    performance?.ioPin !== undefined && "io-pin",
    performance?.realtime !== undefined && "realtime",
    performance?.withoutExits !== undefined && "without-exits",
    performance?.numa !== undefined && "numa",
    performance?.cacheCores !== undefined && "cache-cores",
    disks.length > 0 && "disks",
    disks.some((disk) => disk.format === "qcow2") && "disk:qcow2",
    disks.some((disk) => disk.overlay !== undefined) && "disk:overlay",
    definition.cdrom !== undefined && "cdrom",
    ...nics.map((nic) => `nic:${nic.type}` as const),
    nics.some((nic) => nic.type !== "user" && nic.vhost) && "nic:vhost",
    definition.pmem.length > 0 && "pmem",
    definition.shm.length > 0 && "shm",
    definition.vfio.length > 0 && "vfio",
    definition.balloon && "balloon",
    definition.vsock !== undefined && "vsock",
    definition.generationId !== undefined && "generation-id",
    definition.modules.length > 0 && "modules",
  ];
  return [...new Set(wanted.filter((feature) => feature !== false))];
}
