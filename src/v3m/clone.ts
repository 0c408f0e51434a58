// SPDX-License-Identifier: Apache-2.0
/** The definition of a clone: the first machine's, but for what only one can have. */
import { dirname, join } from "node:path";
import { V3mError } from "../errors.js";
import { deriveMac, deriveRange, deriveTap } from "./definition/derive.js";
import type { NatRange, VmDefinition, VmDisk, VmNic, VmPmem } from "./definition/types.js";

export interface CloneIdentity {
  readonly name: string;
  readonly uuid: string;
  /** The back end's own directory of the clone. */
  readonly directory: string;
  /** And that of the first machine. */
  readonly from: string;
}

/** Where the back end puts a clone's disks: of disk 0 `disk0`, and `disk0.overlay`. */
export function clonePath(directory: string, id: string): string {
  return join(directory, "clone", id);
}

function nicOf(nic: VmNic, index: number, uuid: string, taken: NatRange[]): VmNic {
  const mac = deriveMac(uuid, nic.id);
  if (nic.type === "user") return { ...nic, mac, forward: [] };
  const own = { mac, tap: deriveTap(uuid, nic.id, index) };
  switch (nic.type) {
    case "TUN/TAP": {
      const { address: _, ...rest } = nic;
      return { ...rest, ...own };
    }
    case "TUN/TAP+NAT": {
      const range = deriveRange(uuid, nic.id, taken);
      if (range === undefined) {
        throw new V3mError("E_NETWORK", "no free network is left in 10.64.0.0/10", {
          hint: "undefine VMs that are not needed",
        });
      }
      taken.push(range);
      return { ...nic, ...own, range };
    }
    default:
      return { ...nic, ...own };
  }
}

/** A base stays where it is, unless it goes with the first machine, which is a clone itself. */
function diskOf(disk: VmDisk, index: number, { directory, from }: CloneIdentity): VmDisk {
  if (disk.readOnly) return disk;
  const { image: _, size: __, ...rest } = disk;
  const stays = disk.overlay !== undefined && dirname(disk.path) !== clonePath(from, "");
  const path = stays ? disk.path : clonePath(directory, `disk${index}`);
  return { ...rest, path, overlay: clonePath(directory, `disk${index}.overlay`) };
}

const pmemOf = (pmem: VmPmem, index: number, directory: string): VmPmem =>
  pmem.readOnly ? pmem : { ...pmem, path: clonePath(directory, `pmem${index}`) };

/**
 * @param taken ranges of addresses that others have; gets the clone's, too
 * @throws V3mError E_NETWORK where no range is left
 */
export function cloneDefinition(
  from: VmDefinition,
  identity: CloneIdentity,
  taken: NatRange[],
): VmDefinition {
  const { name, uuid, directory } = identity;
  const { log, ...console } = from.console;
  const { performance, ...others } = from;
  const { gang: _, ...own } = performance ?? {}; // a clone starts by itself
  return {
    ...others,
    ...(performance === undefined ? {} : { performance: own }),
    name,
    uuid,
    disks: from.disks.map((disk, index) => diskOf(disk, index, identity)),
    nics: from.nics.map((nic, index) => nicOf(nic, index, uuid, taken)),
    pmem: from.pmem.map((pmem, index) => pmemOf(pmem, index, directory)),
    console: log === undefined ? console : { ...console, log: `${log}.${name}` },
    ...(from.generationId === undefined ? {} : { generationId: "random" }),
  };
}
