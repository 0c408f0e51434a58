// SPDX-License-Identifier: Apache-2.0
/** Checks of the NIC types: frames travel, and nothing is left on the host afterwards. */

import { readdirSync, readlinkSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { expect } from "vitest";
import type { NicType } from "../../../src/v3m/definition/types.js";
import type { Check } from "./check.js";
import { NET } from "./network.js";
import type { ConsoleShell } from "./shell.js";
import { USER_FORWARD, type World } from "./world.js";

/** The guest's interface of a NIC type, with its MAC address. */
async function interfaceOf(world: World, type: NicType): Promise<{ shell: ConsoleShell; name: string }> {
  const { definition, shell } = await world.guest();
  const nic = definition.nics.find((one) => one.type === type);
  const name = await shell.sh(`grep -l ${nic?.mac} /sys/class/net/*/address | cut -d/ -f5`);
  expect(name).toMatch(/^eth\d$/);
  return { shell, name };
}

async function up(world: World, type: NicType, address: string): Promise<ConsoleShell> {
  const { shell, name } = await interfaceOf(world, type);
  await shell.sh(`ip addr flush dev ${name}; ip addr add ${address} dev ${name}; ip link set ${name} up`);
  return shell;
}

async function ping(shell: ConsoleShell, address: string): Promise<void> {
  // The first may be lost while addresses are being found out.
  const { output } = await shell.run(`for i in 1 2 3 4 5; do ping -c 1 -W 5 ${address} && break; done`);
  expect(output).toContain("1 packets received");
}

/**
 * What a server in the guest echoes. The caller speaks first: Debian 12's passt lets the guest know that it is
 * connected with the caller's first bytes only.
 */
async function echo(port: number, text: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const socket = connect(port, USER_FORWARD.address, () => socket.write(text));
    let got = "";
    socket.on("data", (chunk) => {
      got += String(chunk);
      if (got.length >= text.length) socket.end();
    });
    socket.once("error", reject);
    socket.once("close", () => resolve(got));
  });
}

export const NICS: readonly Check[] = [
  {
    feature: "nic:TUN/TAP",
    name: "guest and host reach each other at the tap's address",
    needs: ["private-net"],
    async run(world) {
      await ping(await up(world, "TUN/TAP", "192.0.2.2/24"), "192.0.2.1");
      const { definition } = await world.guest();
      const stats = await world.backend.stats(definition.name);
      expect(Number(stats.net_sent_bytes)).toBeGreaterThan(0);
      expect(Number(stats.net_received_bytes)).toBeGreaterThan(0);
    },
  },
  {
    feature: "nic:TUN/TAP+NAT",
    name: "the guest reaches a computer that knows no way back to it",
    needs: ["private-net"],
    async run(world) {
      const shell = await up(world, "TUN/TAP+NAT", "10.77.0.2/30");
      await shell.sh("ip route add default via 10.77.0.1");
      await ping(shell, NET.remoteAddress);
    },
  },
  {
    feature: "nic:BRIDGED_TAP",
    name: "the guest is at home in the bridge",
    needs: ["private-net"],
    async run(world) {
      await ping(await up(world, "BRIDGED_TAP", "203.0.113.2/24"), NET.bridgeAddress);
    },
  },
  {
    feature: "nic:VLAN",
    name: "frames leave with the VLAN's tag",
    needs: ["8021q"],
    async run(world) {
      await ping(await up(world, "VLAN", "203.0.114.3/24"), NET.vlanAddress);
    },
  },
  {
    feature: "nic:user",
    name: "the guest reaches the host, and the host a forwarded port",
    needs: ["private-net"],
    async run(world) {
      const { shell, name } = await interfaceOf(world, "user");
      await shell.sh(
        `ip addr flush dev ${name}; ip addr add 10.0.2.15/24 dev ${name}; ip link set ${name} up; ip route del default 2>/dev/null; ip route add default via 10.0.2.2 dev ${name}`,
      );
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.end("hello from the host\n");
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      try {
        const { port } = server.address() as AddressInfo;
        // An input that never ends, as passt loses its way when a guest half-closes before it was sent anything:
        // it sends the same bytes on and on. The -w is against hangs only.
        await shell.sh("rm -f /tmp/open; mkfifo /tmp/open");
        expect(await shell.sh(`nc -w 100 10.0.2.2 ${port} <>/tmp/open`)).toBe("hello from the host");
      } finally {
        server.close();
      }
      await shell.sh(`nc -l -p ${USER_FORWARD.guest} -e cat & sleep 1`);
      expect(await echo(USER_FORWARD.host, "hello to the guest\n")).toBe("hello to the guest\n");
    },
  },
  {
    feature: "nic:vhost",
    name: "the machine has vhost-net open",
    needs: ["private-net", "vhost-net"],
    async run(world) {
      const { definition } = await world.guest();
      const { pid } = await world.backend.status(definition.name);
      const open = readdirSync(`/proc/${pid}/fd`).map((fd) => {
        try {
          return readlinkSync(`/proc/${pid}/fd/${fd}`);
        } catch {
          return "";
        }
      });
      expect(open).toContain("/dev/vhost-net");
    },
  },
];
