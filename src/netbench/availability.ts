// SPDX-License-Identifier: Apache-2.0
/** Which paths this V3M, these guests and this host have, and why not the others. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import type { PathName } from "./names.js";
import type { Plan } from "./plan.js";
import { rdmaRefusal } from "./rdma-files.js";
import { functionsOf, vfioRefusal } from "./vfio.js";

/** Said by whoever started this process: it has a network of its own, which goes with it. */
export const PRIVATE_NETWORK = "V3M_NETBENCH_NETWORK";

const runs = (command: string, ...args: string[]) =>
  spawnSync(command, args, { stdio: "ignore" }).status === 0;

/** A device file; in the nested machine, which is ours, its module is loaded first. */
function device(path: string, module: string): string | undefined {
  if (!existsSync(path) && process.env.V3M_TESTBED) runs("modprobe", module);
  return existsSync(path) ? undefined : `there is no ${path} (sudo modprobe ${module})`;
}

/** A tap device and a bridge can be made, in a network where that disturbs nobody. */
function tap(): string | undefined {
  const { [PRIVATE_NETWORK]: network } = process.env;
  if (network !== "private") return network ?? "this process has no network of its own";
  const missing = device("/dev/net/tun", "tun");
  if (missing !== undefined) return missing;
  const bridge = runs("ip", "link", "add", "name", "v3mtry", "type", "bridge");
  if (bridge) runs("ip", "link", "del", "v3mtry");
  return bridge ? undefined : "no bridge can be made: iproute2 and the kernel's module bridge are needed";
}

function passt(): string | undefined {
  return runs("passt", "--version") ? undefined : "there is no passt (sudo apt install passt)";
}

/** Why guests cannot be connected by a path here, or undefined. Tries it out where Linux guests are asked for. */
export async function pathRefusal(path: PathName, plan: Plan): Promise<string | undefined> {
  const { guests } = plan;
  if (path === "shm") return undefined;
  if (guests === "lwk") return "the lightweight kernel has no network";
  if (guests === "payload" && (path === "rdma" || path === "vfio")) {
    return "payload guests have no driver for it";
  }
  if (path === "vfio") return await vfioRefusal(functionsOf(plan));
  if (path === "user") return passt();
  const missing = tap();
  if (missing !== undefined || path === "tap") return missing;
  return path === "vhost" ? device("/dev/vhost-net", "vhost_net") : await rdmaRefusal();
}
