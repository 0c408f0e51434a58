// SPDX-License-Identifier: Apache-2.0
/**
 * A bridge over an 802.1Q interface. Both are made for the first VM of the VLAN and removed after the last. Which of
 * them are ours the kernel knows (links.ts: GROUP), and how many VMs use a bridge too: they are its ports.
 */
import { createHash } from "node:crypto";
import type { VlanNic } from "../definition/types.js";
import { NetworkError } from "./errors.js";
import {
  addLink,
  addresses,
  deleteLink,
  isBridge,
  isOurs,
  type Link,
  links,
  passOnly,
  setLink,
} from "./links.js";

const NAME_MAX = 15;

function hashed(prefix: string, text: string): string {
  return prefix + createHash("sha256").update(text).digest("hex").slice(0, 10);
}

/** `eth0.100`, or where that is too long, a name made of it. */
export function vlanName({ parent, vlan }: Pick<VlanNic, "parent" | "vlan">): string {
  const name = `${parent}.${vlan}`;
  return name.length <= NAME_MAX ? name : hashed("v3mv", name);
}

/** Of the bridge that V3M makes over a VLAN interface. */
export function bridgeName({ parent, vlan }: Pick<VlanNic, "parent" | "vlan">): string {
  return hashed("v3mb", `${parent}.${vlan}`);
}

function isVlan(link: Link, { parent, vlan }: VlanNic): boolean {
  return link.linkinfo?.info_kind === "vlan" && link.link === parent && link.linkinfo.info_data?.id === vlan;
}

/**
 * The bridge that leads to the VLAN; made, with the VLAN interface, where it is not there.
 * @returns its name
 * @throws NetworkError E_NOT_FOUND (no such parent), E_BUSY (the VLAN interface is in other use), E_PERMISSION, …
 */
export async function openVlan(nic: VlanNic): Promise<string> {
  const all = await links();
  if (!all.some(({ ifname }) => ifname === nic.parent)) {
    throw new NetworkError("E_NOT_FOUND", `there is no interface ${nic.parent} for VLAN ${nic.vlan}`, {
      hint: "ip -br link shows the interfaces of this host",
    });
  }
  const present = all.find((link) => isVlan(link, nic));
  if (present?.master !== undefined) return bridgeOf(present, all);
  if (present !== undefined && !isOurs(present)) await refuseIfUsed(present);
  const vlan = present?.ifname ?? vlanName(nic);
  if (present === undefined) await addLink(vlan, ["type", "vlan", "id", String(nic.vlan)], nic.parent);
  const bridge = bridgeName(nic);
  if (!all.some(({ ifname }) => ifname === bridge)) await addLink(bridge, ["type", "bridge"]);
  for (const name of [vlan, bridge]) await passOnly(name);
  await setLink(vlan, "master", bridge, "up");
  await setLink(bridge, "up");
  return bridge;
}

function bridgeOf(vlan: Link, all: readonly Link[]): string {
  const master = all.find(({ ifname }) => ifname === vlan.master);
  if (master !== undefined && isBridge(master)) return master.ifname;
  throw new NetworkError("E_BUSY", `${vlan.ifname} belongs to ${vlan.master}, which is no bridge`, {
    hint: "put it into a bridge, or give another VLAN",
  });
}

/** What has addresses of the host's would lose its network in a bridge. */
async function refuseIfUsed({ ifname }: Link): Promise<void> {
  const own = (await addresses()).find((link) => link.ifname === ifname);
  const global = own?.addr_info.filter(({ local }) => !local.startsWith("fe80:")) ?? [];
  if (global.length === 0) return;
  throw new NetworkError("E_BUSY", `${ifname} has addresses of this host's: ${global[0]?.local}`, {
    hint: `make a bridge with them yourself, put ${ifname} into it, and use it here`,
  });
}

/** Remove the bridges of ours that no VM is in any more, and VLAN interfaces of ours that are in none. */
export async function removeStaleVlans(): Promise<void> {
  const all = await links();
  const ports = (bridge: Link) => all.filter(({ master }) => master === bridge.ifname);
  const isUsed = (bridge: Link) => ports(bridge).some((port) => port.linkinfo?.info_kind !== "vlan");
  const bridges = all.filter((link) => isOurs(link) && isBridge(link));
  const stale = bridges.filter((bridge) => !isUsed(bridge));
  for (const { ifname } of stale) await deleteLink(ifname);
  const gone = new Set(stale.map(({ ifname }) => ifname));
  for (const link of all) {
    const alone = link.master === undefined || gone.has(link.master);
    if (isOurs(link) && link.linkinfo?.info_kind === "vlan" && alone) await deleteLink(link.ifname);
  }
}
