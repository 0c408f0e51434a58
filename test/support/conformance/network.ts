// SPDX-License-Identifier: Apache-2.0
/** The host's network for guests under test: a bridge, an interface that leads away, and what is there. */
import { execFileSync, spawnSync } from "node:child_process";
import { rmSync } from "node:fs";

/** Only in a network namespace of the tests' own, or in a machine that is thrown away. */
export const NET = {
  bridge: "conf-br",
  bridgeAddress: "203.0.113.1",
  parent: "conf-up",
  hostAddress: "198.51.100.1",
  /** Somebody beyond the host, who knows no way back to the guests' networks. */
  remoteAddress: "198.51.100.2",
  vlan: 77,
  vlanAddress: "203.0.114.2",
} as const;

const NAMESPACE = "v3m-conformance";

function ip(...args: string[]): string {
  return execFileSync("ip", args, { encoding: "utf8" });
}

export function setUpNetwork(vlan: boolean): void {
  tearDownNetwork();
  ip("link", "set", "lo", "up");
  ip("link", "add", "name", NET.bridge, "type", "bridge");
  ip("addr", "add", `${NET.bridgeAddress}/24`, "dev", NET.bridge);
  ip("link", "set", NET.bridge, "up");
  ip("netns", "add", NAMESPACE);
  ip("link", "add", NET.parent, "type", "veth", "peer", "name", "up1", "netns", NAMESPACE);
  ip("addr", "add", `${NET.hostAddress}/24`, "dev", NET.parent);
  ip("link", "set", NET.parent, "up");
  ip("-n", NAMESPACE, "addr", "add", `${NET.remoteAddress}/24`, "dev", "up1");
  ip("-n", NAMESPACE, "link", "set", "up1", "up");
  if (vlan) {
    ip(
      "-n",
      NAMESPACE,
      "link",
      "add",
      "link",
      "up1",
      "name",
      "up1.v",
      "type",
      "vlan",
      "id",
      String(NET.vlan),
    );
    ip("-n", NAMESPACE, "addr", "add", `${NET.vlanAddress}/24`, "dev", "up1.v");
    ip("-n", NAMESPACE, "link", "set", "up1.v", "up");
  }
}

export function tearDownNetwork(): void {
  for (const args of [
    ["link", "delete", NET.bridge],
    ["link", "delete", NET.parent],
    ["netns", "delete", NAMESPACE],
  ]) {
    spawnSync("ip", args, { stdio: "ignore" });
  }
  rmSync(`/run/netns/${NAMESPACE}`, { force: true });
}

/** All that a VM could have left: interfaces, tables of rules, the switch for forwarding. */
export function networkState(): string {
  const links = (JSON.parse(ip("-j", "link")) as { ifname: string }[]).map(({ ifname }) => ifname).sort();
  const tables = spawnSync("nft", ["list", "tables"], { encoding: "utf8" }).stdout ?? "";
  const forwarding = execFileSync("cat", ["/proc/sys/net/ipv4/ip_forward"], { encoding: "utf8" });
  return JSON.stringify({ links, tables: tables.split("\n").sort(), forwarding: forwarding.trim() });
}
