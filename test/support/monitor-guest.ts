// SPDX-License-Identifier: Apache-2.0
/**
 * A Linux guest in a monitor, in the whole jail, uses every kind of device, is paused, reset and powered off. For tests
 * as root, and as a program for those as another user:
 *
 *     setpriv --reuid=65534 … node dist/test/support/monitor-guest.js DIRECTORY KERNEL INITRAMFS
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LinuxGuest } from "./linux.js";
import { gone } from "./monitors.js";

const MIB = 1 << 20;
export const GUEST_MODULES = ["virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon"];
const TAP_HOST = "10.9.0.1";
const TAP_GUEST = "10.9.0.2";
const USER_MAC = "52:54:00:00:00:01";
const TAP_MAC = "52:54:00:00:00:02";
/** Of the three disks: served by io_uring, by a thread, and an overlay. */
const DISKS = ["vda", "vdb", "vdc"];

export interface Scenario {
  /** An empty directory for everything. */
  readonly directory: string;
  readonly kernel: string;
  readonly initrd: string;
  /** A second interface, on a tap with vhost-net: for root. */
  readonly tap?: boolean;
}

async function serve(content: Buffer): Promise<Server> {
  const server = createServer((_request, response) => {
    response.writeHead(200, { "content-length": content.length });
    response.end(content);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** What is written to each disk is read from it, and not from the guest's memory. */
async function checkDisks(guest: LinuxGuest): Promise<void> {
  for (const disk of DISKS) {
    await guest.sh("dd if=/dev/urandom of=/tmp/x bs=64k count=16 2>/dev/null");
    await guest.sh(`dd if=/tmp/x of=/dev/${disk} bs=64k conv=fsync 2>/dev/null`);
    await guest.sh(`echo 3 >/proc/sys/vm/drop_caches; cmp -n ${MIB} /tmp/x /dev/${disk}`);
    await guest.sh(`blkdiscard -o 2097152 -l 1048576 /dev/${disk} 2>/dev/null || true`);
  }
}

/** Which of two drivers comes first is not sure. */
async function interfaceOf(guest: LinuxGuest, mac: string): Promise<string> {
  return (await guest.sh(`grep -l ${mac} /sys/class/net/*/address`)).split("/")[4] ?? "";
}

/** By passt, which gives the address and the gateway, at which this computer is. */
async function checkNetwork(guest: LinuxGuest, content: Buffer, port: number): Promise<void> {
  const name = await interfaceOf(guest, USER_MAC);
  const script =
    '#!/bin/sh\\n[ "$1" = bound ] && ip addr add $ip/$mask dev $interface && ip route add default via $router\\nexit 0\\n';
  await guest.sh(`printf '${script}' >/tmp/lease; chmod 755 /tmp/lease; ip link set ${name} up`);
  await guest.sh(`udhcpc -f -n -q -t 20 -i ${name} -s /tmp/lease`);
  const gateway = "$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')";
  const sum = await guest.sh(`wget -q -O - http://${gateway}:${port}/ | md5sum | cut -c1-32`);
  assert.equal(sum, createHash("md5").update(content).digest("hex"));
}

async function checkTap(guest: LinuxGuest): Promise<void> {
  const name = await interfaceOf(guest, TAP_MAC);
  await guest.sh(`ip addr add ${TAP_GUEST}/24 dev ${name}; ip link set ${name} up`);
  assert.match(await guest.sh(`ping -c 2 -W 20 ${TAP_HOST}`), /2 packets received/);
}

async function checkRest(guest: LinuxGuest): Promise<void> {
  assert.equal(await guest.sh("nproc"), "2");
  assert.equal(await guest.sh("head -c 64 /dev/hwrng | wc -c"), "64");
  for (const bytes of [16 * MIB, 0]) {
    guest.machine.balloon.set(bytes);
    while (guest.machine.balloon.get().actual !== BigInt(bytes)) await guest.sh("sleep 0.1");
  }
  await guest.machine.pause();
  assert.equal(guest.machine.state, "paused");
  guest.machine.resume();
  assert.equal(await guest.sh("echo on"), "on");
}

function upTap(before: ReadonlySet<string>): void {
  const tap = readdirSync("/sys/class/net").find((name) => !before.has(name)) ?? "";
  execFileSync("ip", ["addr", "add", `${TAP_HOST}/24`, "dev", tap]);
  execFileSync("ip", ["link", "set", tap, "up"]);
}

/** @throws where anything goes wrong */
export async function useEveryDevice({ directory, kernel, initrd, tap = false }: Scenario): Promise<void> {
  const path = (name: string) => join(directory, name);
  const interfaces = new Set(readdirSync("/sys/class/net"));
  const content = randomBytes(MIB);
  const server = await serve(content);
  for (const name of DISKS) writeFileSync(path(name), Buffer.alloc(8 * MIB, name));
  mkdirSync(path("monitor"));
  try {
    await using guest = await LinuxGuest.boot({
      kernel,
      unpack: false,
      initrd,
      cpus: 2,
      memory: 192 * MIB,
      disks: [
        { path: path("vda") },
        { path: path("vdb"), ioUring: false },
        { path: path("vdc"), overlay: path("overlay") },
      ],
      nets: [
        { kind: "user", mac: USER_MAC },
        ...(tap ? [{ kind: "tap", name: "v3mm%d", vhost: true, mac: TAP_MAC } as const] : []),
      ],
      rng: true,
      balloon: true,
      monitor: { directory: path("monitor") },
    });
    if (tap) upTap(interfaces);
    for (let boot = 0; boot < 2; boot++) {
      if (boot > 0) {
        guest.machine.reset();
        await guest.shell();
      }
      const { port } = server.address() as AddressInfo;
      await checkDisks(guest);
      await checkNetwork(guest, content, port);
      if (tap) await checkTap(guest);
      await checkRest(guest);
    }
    assert.equal(guest.machine.stats().resets, 1);
    guest.type("poweroff -f\n");
    assert.equal((await guest.ended()).cause, "poweroff");
    const { state, text, fault } = await gone(path("monitor"));
    assert.deepEqual([state, text, fault], ["stopped", "the guest powered off", undefined]);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [directory = "", kernel = "", initrd = ""] = process.argv.slice(2);
  await useEveryDevice({ directory, kernel, initrd });
}
