// SPDX-License-Identifier: Apache-2.0
/** A guest behind address translation needs no configuration: it asks, and gets what leads out. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { qemuBackend } from "../../src/v3m/backends/qemu/index.js";
import { reachable } from "../../src/v3m/network/name-servers.js";
import { suite } from "../support/capabilities.js";
import { NET, setUpNetwork, tearDownNetwork } from "../support/conformance/network.js";
import { NAT_NIC, PLAIN, World } from "../support/conformance/world.js";

/** What busybox's client calls with what it was told. */
const SCRIPT = `#!/bin/sh
[ "$1" = bound ] || exit 0
echo "told: $ip $mask $router $lease $serverid"
ip addr add $ip/$mask dev $interface
ip route add default via $router
`;

suite("a guest behind address translation", { needs: ["private-net"] }, () => {
  let world: World;

  beforeAll(async () => {
    setUpNetwork(false);
    world = await World.create(qemuBackend);
  });
  afterAll(async () => {
    await world.dispose();
    tearDownNetwork();
  });

  it("gets address and gateway by DHCP, and reaches what lies beyond the host", async () => {
    const definition = {
      ...PLAIN,
      name: "nat",
      type: "Qemu",
      boot: await world.linux(["virtio_net"]),
      nics: [NAT_NIC],
    };
    await world.define(definition);
    const { shell } = await world.started(definition);
    await shell.sh(`cat >/tmp/bound <<'END'\n${SCRIPT}END\nchmod +x /tmp/bound; ip link set eth0 up`);
    // In a network of four addresses the second is all there is.
    const told = await shell.sh("udhcpc -i eth0 -n -q -f -t 10 -s /tmp/bound");
    expect(told).toMatch(/^told: 10\.77\.0\.2 30 10\.77\.0\.1 \d+ 10\.77\.0\.1$/m);
    const { output } = await shell.run(
      `for i in 1 2 3 4 5; do ping -c 1 -W 5 ${NET.remoteAddress} && break; done`,
    );
    expect(output).toContain("1 packets received");
    // Renewed, as after half of its time, and asked for by one who wants another.
    expect(
      await shell.sh("ip addr flush dev eth0; udhcpc -i eth0 -n -q -f -t 10 -r 10.77.0.3 -s /tmp/bound"),
    ).toMatch(/^told: 10\.77\.0\.2 /m);
  });

  it("is told name servers that it can reach", () => {
    const text =
      "# none\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n  nameserver ::1\nnameserver 192.0.2.54\n";
    expect(reachable(text)).toEqual(["192.0.2.53", "192.0.2.54"]);
    expect(reachable("search example.org\n")).toEqual([]);
  });
});
