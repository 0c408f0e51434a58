// SPDX-License-Identifier: Apache-2.0
/** Which paths this V3M, these guests and this host have, and why not the others. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { isNetworkPath } from "./links.js";
import type { GuestKind, PathName } from "./names.js";

/** Paths that no guest has yet. */
const ABSENT: Readonly<Partial<Record<PathName, string>>> = {
  rdma: "this version of V3M has no path for verbs between guests",
  vfio: "this version of V3M does not pass devices through",
};

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
export function pathRefusal(path: PathName, guests: GuestKind): string | undefined {
  if (path === "shm") return undefined;
  if (guests === "payload" && !isNetworkPath(path)) return "payload guests have no driver for it";
  const absent = ABSENT[path];
  if (absent !== undefined) return absent;
  if (path === "user") return passt();
  return tap() ?? (path === "vhost" ? device("/dev/vhost-net", "vhost_net") : undefined);
}
