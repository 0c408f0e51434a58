// SPDX-License-Identifier: Apache-2.0
/**
 * Network cards of a pair of guests, and what connects them: a bridge of this network's own, two passt, or, of functions
 * that were handed on, whatever they are on.
 */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import type { NetOptions, UserNet } from "../vmm/devices.js";
import type { PathName } from "./names.js";

/** Paths with a card in each guest, in the order of the cards. */
const NETWORK_PATHS = ["tap", "vhost", "user", "rdma", "vfio"] as const;
export type NetworkPath = (typeof NETWORK_PATHS)[number];

/** What passt calls itself and its guest, where the host has no network (src/vmm/passt.ts). */
export const USER_HOST = "10.0.2.2";
export const USER_GUEST = "10.0.2.15";

/** Of a pair's channel: what both poll is in the common section. */
export const CHANNEL = { peers: 2, areaBytes: 1 << 20, commonBytes: 64 << 10 } as const;

export function isNetworkPath(path: PathName): path is NetworkPath {
  return NETWORK_PATHS.some((known) => known === path);
}

/** Soft-RoCE works over a tap device, too. */
const hasTap = (path: NetworkPath) => path !== "user" && path !== "vfio";

/** Of addresses. */
const NETWORKS: Readonly<Record<Exclude<NetworkPath, "user">, number>> = {
  tap: 91,
  vhost: 92,
  rdma: 93,
  vfio: 94,
};

/** A bridge for each pair and path: frames of one pair come to no other. */
const bridgeName = (path: NetworkPath, pair: number) => `v3m${path}${pair}`;
const tapName = (path: NetworkPath, pair: number, peer: number) => `v3m${path}${pair}p${peer}`;

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

/** 10.<path>.<pair>.<peer>: of the leader (peer 0) 2, of the follower 1. */
export function address(path: NetworkPath, pair: number, peer: number): string {
  if (path === "user") return USER_GUEST;
  return `10.${NETWORKS[path]}.${pair}.${peer === 0 ? 2 : 1}`;
}

/** Before the guests: what their taps go into, if they have any. */
export function makeBridge(path: NetworkPath, pair: number): void {
  if (hasTap(path)) ip("link", "add", bridgeName(path, pair), "type", "bridge");
}

/** When the guests and their taps are gone. */
export function removeBridge(path: NetworkPath, pair: number): void {
  if (hasTap(path)) ip("link", "del", bridgeName(path, pair));
}

/** The card that V3M makes for a path, if it does. @param forwards of `user`, to the follower */
export function netOf(
  path: NetworkPath,
  pair: number,
  peer: number,
  forwards: Pick<UserNet, "tcp" | "udp">,
): NetOptions[] {
  if (path === "vfio") return [];
  if (path === "user") return [{ kind: "user", ...(peer === 0 ? {} : forwards) }];
  return [{ kind: "tap", name: tapName(path, pair, peer), vhost: path === "vhost" }];
}

/** Once the guest's machine is there, and with it its tap. */
export function joinBridge(path: NetworkPath, pair: number, peer: number): void {
  if (!hasTap(path)) return;
  ip("link", "set", tapName(path, pair, peer), "master", bridgeName(path, pair), "up");
  ip("link", "set", bridgeName(path, pair), "up");
}

/** Of TCP, at the loopback address: nobody has it now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const at = server.address();
      server.close(() => resolve(typeof at === "object" && at !== null ? at.port : 0));
    });
  });
}

/** The same of UDP. */
export function freeUdpPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    socket.once("error", reject);
    socket.bind(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}
