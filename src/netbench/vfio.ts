// SPDX-License-Identifier: Apache-2.0
/** `vfio`: two PCI functions of this host's on one network, one for each guest of a pair, and their guests' drivers. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CARDS } from "../../harness/amd/qemu.js";
import { bindFunction } from "../../harness/common/bind.js";
import type { GuestKernel } from "../../harness/kernels.js";
import { V3mError } from "../errors.js";
import { checkVfio, pciFunction } from "../vmm/vfio.js";
import type { Plan } from "./plan.js";

/** Addresses: the leader's and the follower's. */
export type FunctionPair = readonly [string, string];

/** QEMU's nested machine has two cards on one wire that are there to be handed on. */
const SPARE: FunctionPair = [CARDS.e1000e.address, CARDS.virtio.address];

/** Those of a plan, or of the nested machine; undefined where there are none. */
export function functionsOf(plan: Pick<Plan, "vfio">): FunctionPair | undefined {
  return plan.vfio ?? (process.env.V3M_TESTBED ? SPARE : undefined);
}

/** Why these cannot be handed on, or undefined. In the nested machine, which is ours, they are made ready first. */
export async function vfioRefusal(functions: FunctionPair | undefined): Promise<string | undefined> {
  if (functions === undefined) return "no two functions on one network are named (--vfio ADDRESS,ADDRESS)";
  try {
    for (const address of functions) {
      const found = await pciFunction(address);
      if (process.env.V3M_TESTBED && found?.group !== undefined) await bindFunction(address, "vfio-pci");
      await checkVfio(address);
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof V3mError)) throw error;
    return error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
  }
}

/** A pattern of modules.alias. */
function matches(pattern: string, alias: string): boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(alias);
}

/** The modules for a device, by the kernel's index of them. @param alias of the device, as sysfs has it (`modalias`) */
export function modulesFor(index: string, alias: string): string[] {
  const found = index.split("\n").flatMap((line) => {
    const [word, pattern = "", module = ""] = line.split(" ");
    return word === "alias" && pattern.startsWith("pci:") && matches(pattern, alias) ? [module] : [];
  });
  return [...new Set(found)];
}

/** The modules that these functions need in a guest. */
export async function functionModules(kernel: GuestKernel, functions: FunctionPair): Promise<string[]> {
  const index = await readFile(join(kernel.modulesDir, "modules.alias"), "utf8");
  const all: string[] = [];
  for (const address of functions) {
    const alias = await readFile(join("/sys/bus/pci/devices", address, "modalias"), "utf8");
    all.push(...modulesFor(index, alias.trim()));
  }
  return all;
}
