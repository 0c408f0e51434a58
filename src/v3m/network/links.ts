// SPDX-License-Identifier: Apache-2.0
/** Network interfaces of the host, through iproute2. */
import { existsSync } from "node:fs";
import { type CommandOptions, command } from "./command.js";

/**
 * Group of all bridges and VLAN interfaces that V3M makes. The kernel sets it when it makes them, and forgets it with
 * them: no record of ours can be older or younger than what it is about.
 */
export const GROUP = 0x76336d;

export interface Link {
  readonly ifname: string;
  readonly flags: readonly string[];
  /** A number, or a name of /etc/iproute2/group. */
  readonly group: string;
  /** Name of the bridge that it is in. */
  readonly master?: string;
  /** Of a VLAN interface: the one that it is on. */
  readonly link?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { readonly id?: number };
  };
}

export interface Address {
  readonly ifname: string;
  readonly addr_info: readonly {
    readonly family: string;
    readonly local: string;
    readonly prefixlen: number;
  }[];
}

export interface Route {
  /** `default`, `192.0.2.0/24`, `192.0.2.1`. */
  readonly dst: string;
  readonly dev?: string;
}

async function json<T>(args: readonly string[], options: CommandOptions): Promise<T[]> {
  const text = await command("ip", ["-j", ...args], options);
  // Without an interface to report, some versions print nothing; some print an empty object for each left out.
  const all = text.trim() === "" ? [] : (JSON.parse(text) as T[]);
  return all.filter((item) => Object.keys(item as object).length > 0);
}

export async function links(options: CommandOptions = {}): Promise<Link[]> {
  return json<Link>(["-d", "link", "show"], options);
}

export async function findLink(name: string, options: CommandOptions = {}): Promise<Link | undefined> {
  return (await links(options)).find(({ ifname }) => ifname === name);
}

export async function addresses(options: CommandOptions = {}): Promise<Address[]> {
  return json<Address>(["addr", "show"], options);
}

/** IPv4 routes of the main table. */
export async function routes(options: CommandOptions = {}): Promise<Route[]> {
  return json<Route>(["-4", "route", "show"], options);
}

export function isOurs(link: Link): boolean {
  return link.group === String(GROUP);
}

export function isBridge(link: Link): boolean {
  return link.linkinfo?.info_kind === "bridge";
}

/** Make an interface that is ours; `rest` is what follows its name. */
export async function addLink(name: string, rest: readonly string[], on?: string): Promise<void> {
  const parent = on === undefined ? [] : ["link", on];
  await command("ip", ["link", "add", ...parent, "name", name, "group", String(GROUP), ...rest]);
}

export async function setLink(name: string, ...what: readonly string[]): Promise<void> {
  await command("ip", ["link", "set", "dev", name, ...what]);
}

/** The host takes no IPv6 address by itself there: it only passes frames on. */
export async function passOnly(name: string): Promise<void> {
  if (existsSync("/proc/sys/net/ipv6")) await setLink(name, "addrgenmode", "none");
}

/** One that is not there is no error. */
export async function deleteLink(name: string): Promise<void> {
  try {
    await command("ip", ["link", "delete", "dev", name]);
  } catch (error) {
    if ((await findLink(name)) !== undefined) throw error;
  }
}
