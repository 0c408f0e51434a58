// SPDX-License-Identifier: Apache-2.0
/** MAC and IPv4 addresses: what is one, and which of them an interface may have. */
import { isIPv4 } from "node:net";
import type { NatRange } from "./types.js";

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

/**
 * Why an address cannot be that of an interface, or undefined where it can. The rules of 2007 (none that begins
 * with 01 or 33, not all FF) are cases of one: the lowest bit of the first byte marks a group of receivers.
 */
export function macProblem(mac: string): string | undefined {
  const text = mac.toLowerCase();
  if (!MAC.test(text)) return "not a MAC address: six bytes in hexadecimal with colons between them";
  if (text === "ff:ff:ff:ff:ff:ff") return "the broadcast address cannot be an interface's";
  if ((Number.parseInt(text.slice(0, 2), 16) & 1) === 1) {
    return `an address that begins with ${mac.slice(0, 2)} is a multicast group's, not an interface's`;
  }
  return text === "00:00:00:00:00:00" ? "the address of zeros cannot be an interface's" : undefined;
}

export const MAC_HELP =
  "give one such as 52:54:00:12:34:56, its first byte even, or none to have one derived";

/** Name of a network interface of the host's: what Linux's dev_valid_name() takes, in ASCII. */
export function interfaceProblem(name: string): string | undefined {
  if (name === "." || name === ".." || !/^[\x21-\x7e]{1,15}$/.test(name) || /[/:%]/.test(name)) {
    return "not the name of an interface: 1 to 15 characters, no space, slash, colon or %";
  }
  return undefined;
}

function toNumber(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

export interface Cidr {
  readonly address: string;
  readonly prefix: number;
}

/** `192.0.2.1/24`; without a prefix `defaultPrefix`. */
export function parseCidr(text: string, defaultPrefix?: number): Cidr | undefined {
  const [address = "", length, more] = text.split("/");
  const prefix = length === undefined ? defaultPrefix : /^\d{1,2}$/.test(length) ? Number(length) : undefined;
  return more === undefined && isIPv4(address) && prefix !== undefined && prefix <= 32
    ? { address, prefix }
    : undefined;
}

/** The range that holds an address: the host gets its first address, the guest the second. */
export function natRange({ address, prefix }: Cidr): NatRange | undefined {
  if (prefix < 8 || prefix > 30) {
    return undefined;
  }
  const size = 2 ** (32 - prefix);
  const first = Math.floor(toNumber(address) / size) * size;
  return { network: toText(first), prefix, host: toText(first + 1), guest: toText(first + 2) };
}

/** Whether two ranges have addresses in common. */
type Network = Pick<NatRange, "network" | "prefix">;

export function overlap(a: Network, b: Network): boolean {
  const size = 2 ** (32 - Math.min(a.prefix, b.prefix));
  return Math.floor(toNumber(a.network) / size) === Math.floor(toNumber(b.network) / size);
}

/** Ranges of 4 addresses within 10.64.0.0/10, from which those of NAT interfaces are taken. */
export const NAT_POOL = { base: "10.64.0.0", count: 2 ** 20, prefix: 30 } as const;

/** The n-th range of the pool. */
export function pooledRange(n: number): NatRange {
  const address = toNumber(NAT_POOL.base) + (n % NAT_POOL.count) * 4;
  return { network: toText(address), prefix: 30, host: toText(address + 1), guest: toText(address + 2) };
}
