// SPDX-License-Identifier: Apache-2.0
/**
 * The host's side of a VM's tap devices: the NIC types `TUN/TAP`, `TUN/TAP+NAT`, `BRIDGED_TAP` and `VLAN`. What each
 * leaves on the host, and who removes it, is in docs/reference/networks.md.
 *
 *     const taps = await openTaps(definition.nics);
 *     …                              // taps.fds go to the machine's process, in the order of the NICs
 *     taps.close();                  // the machine has them now; or they are gone
 *     await releaseNetwork(definition.nics);          // after the machine's end
 */
import { closeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { packageRoot } from "../../package-root.js";
import type { OperationOptions } from "../../vmm/backend.js";
import { overlap, parseCidr } from "../definition/address.js";
import type { NatNic, UserNic, VmNic } from "../definition/types.js";
import { directories } from "../store/directories.js";
import { Lock } from "../store/lock.js";
import { command } from "./command.js";
import { NetworkError } from "./errors.js";
import { putBack, turnOn } from "./forwarding.js";
import { findLink, isBridge, links, passOnly, routes, setLink } from "./links.js";
import { addNat, removeStaleNat } from "./nat.js";
import { openTap } from "./tap.js";
import { openVlan, removeStaleVlans } from "./vlan.js";

export { tapCounters } from "./counters.js";
export { dhcpNetworks } from "./dhcp.js";
export { NetworkError } from "./errors.js";

export type AnyTap = Exclude<VmNic, UserNic>;

/** How long another command may take to change the network, milliseconds. */
const LOCK_MS = 60_000;

/** Open tap devices, in the order of their NICs. */
export interface Taps {
  /** Each is a tap's descriptor with the virtio header on its frames; open until `close`. */
  readonly fds: readonly number[];
  /** Close them here. Taps that nobody else has open are gone then. */
  close(): void;
}

function tapNics(nics: readonly VmNic[]): AnyTap[] {
  return nics.filter((nic): nic is AnyTap => nic.type !== "user");
}

/** Whether a NIC leaves more on the host than its tap device, which goes by itself. */
function leavesTraces({ type }: VmNic): boolean {
  return type === "TUN/TAP+NAT" || type === "VLAN";
}

/**
 * Make the tap devices of a VM's NICs and connect them to what they lead to.
 * @throws NetworkError E_PERMISSION, E_NOT_FOUND (no such bridge or interface), E_BUSY (in use), E_OVERLAP (the host
 * has routes into the NAT's network), E_UNSUPPORTED (a program is not installed), E_NETWORK; the signal's reason.
 * All taps are gone then; `releaseNetwork` removes the rest.
 */
export async function openTaps(nics: readonly VmNic[], options: OperationOptions = {}): Promise<Taps> {
  const fds: number[] = [];
  const close = () => {
    for (const fd of fds.splice(0)) closeSync(fd);
  };
  try {
    for (const nic of tapNics(nics)) {
      options.signal?.throwIfAborted();
      const before = nic.type === "TUN/TAP" ? await isUp(nic) : false;
      fds.push(await openTap(nic.tap));
      if (!before) await connect(nic);
    }
    return { fds, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** A tap that root made for this user, and set up, needs no more: then no privilege is needed. */
async function isUp(nic: AnyTap): Promise<boolean> {
  const own = await findLink(nic.tap);
  return own?.flags.includes("UP") === true && !("address" in nic && nic.address !== undefined);
}

async function connect(nic: AnyTap): Promise<void> {
  if (nic.mtu !== undefined) await setLink(nic.tap, "mtu", String(nic.mtu));
  switch (nic.type) {
    case "TUN/TAP":
      if (nic.address !== undefined) await setAddress(nic.tap, nic.address);
      return await setLink(nic.tap, "up");
    case "TUN/TAP+NAT":
      return await locked((directory) => connectNat(nic, directory));
    case "BRIDGED_TAP":
      await requireBridge(nic.bridge);
      return await addPort(nic.tap, nic.bridge);
    case "VLAN":
      return await locked(async () => addPort(nic.tap, await openVlan(nic)));
  }
}

async function setAddress(tap: string, address: string): Promise<void> {
  await command("ip", ["addr", "replace", address, "dev", tap]);
}

/** The host has no addresses of its own at a bridge's port. */
async function addPort(tap: string, bridge: string): Promise<void> {
  await passOnly(tap);
  await setLink(tap, "master", bridge, "up");
}

async function requireBridge(name: string): Promise<void> {
  const link = await findLink(name);
  if (link !== undefined && isBridge(link)) return;
  throw link === undefined
    ? new NetworkError("E_NOT_FOUND", `there is no bridge ${name}`, {
        hint: `sudo ip link add name ${name} type bridge && sudo ip link set ${name} up; or type TUN/TAP+NAT`,
      })
    : new NetworkError("E_NOT_FOUND", `${name} is no bridge`, {
        hint: "ip -br link show type bridge shows the bridges of this host",
      });
}

async function connectNat({ tap, range }: NatNic, directory: string): Promise<void> {
  for (const { dst, dev } of await routes()) {
    const other = dst === "default" ? undefined : parseCidr(dst, 32);
    if (
      other !== undefined &&
      dev !== tap &&
      overlap({ network: other.address, prefix: other.prefix }, range)
    ) {
      throw new NetworkError("E_OVERLAP", `${range.network}/${range.prefix} overlaps ${dst} at ${dev}`, {
        hint: "give the NIC another network",
      });
    }
  }
  await setAddress(tap, `${range.host}/${range.prefix}`);
  await setLink(tap, "up");
  await addNat(tap, range);
  await turnOn(directory);
}

/** With the lock of all that V3M shares between VMs on this host. */
async function locked<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = join(directories().runtime, "network");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  using _lock = await Lock.take(join(directory, "lock"), {
    what: "the network of this host",
    waitMs: LOCK_MS,
  });
  return await work(directory);
}

/**
 * Remove what the NICs of a VM that does not run any more left on the host, unless another VM uses it; and what
 * others left whose processes were killed. May be repeated.
 */
export async function releaseNetwork(nics: readonly VmNic[]): Promise<void> {
  if (nics.some(leavesTraces)) await sweepNetwork();
}

/** The one that has not begun yet. */
let nextSweep: Promise<void> | undefined;
let lastSweep: Promise<void> = Promise.resolve();

/** Remove translation rules, bridges and VLAN interfaces of V3M's that no tap uses any more. */
export function sweepNetwork(): Promise<void> {
  // Those who ask while one is under way share the next: hundreds of machines may end at once.
  nextSweep ??= lastSweep
    .catch(() => {})
    .then(() => {
      nextSweep = undefined;
      return sweep();
    });
  lastSweep = nextSweep;
  return nextSweep;
}

async function sweep(): Promise<void> {
  await locked(async (directory) => {
    // A tap without a carrier is one that stays by itself, and that nobody has open.
    const used = (await links()).filter(({ flags }) => !flags.includes("NO-CARRIER"));
    const names = new Set(used.map(({ ifname }) => ifname));
    const left = await removeStaleNat((tap) => names.has(tap));
    if (left.length === 0) await putBack(directory);
    await removeStaleVlans();
  });
}

/** The command that does so when a machine has ended while no command of ours runs; empty where none is needed. */
export function sweepCommand(nics: readonly VmNic[]): string[] {
  return nics.some(leavesTraces)
    ? [process.execPath, join(packageRoot(), "dist/src/v3m/network/sweep.js")]
    : [];
}
