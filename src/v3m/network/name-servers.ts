// SPDX-License-Identifier: Apache-2.0
/** Name servers that a guest can use: the host's, but for those that listen at the host alone. */
import { readFile } from "node:fs/promises";
import { isIPv4 } from "node:net";

/** The second is what systemd-resolved, which listens at 127.0.0.53, asks itself. */
const FILES = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/** What a DHCP answer of ours holds. */
const MOST = 3;

/** IPv4 addresses of the file's name servers that are reached over a network. */
export function reachable(text: string): string[] {
  const named = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, address = ""]) => address);
  return named.filter((address) => isIPv4(address) && !address.startsWith("127.")).slice(0, MOST);
}

/** In the order in which they are asked; empty where the host has none that others could use. */
export async function nameServers(): Promise<string[]> {
  for (const file of FILES) {
    const found = reachable(await readFile(file, "utf8").catch(() => ""));
    if (found.length > 0) return found;
  }
  return [];
}
