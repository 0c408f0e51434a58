// SPDX-License-Identifier: Apache-2.0
/** Verbs between two Linux guests: soft-RoCE over virtio-net, measured by Debian's perftest. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { RDMA_MODULES, rdmaFiles } from "../../src/netbench/rdma-files.js";
import { type Link, openLink } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { rounds } from "../support/places.js";

const ADDRESSES = ["10.7.0.1", "10.7.0.2"] as const;
const COUNT = rounds(20, 1000);

suite("verbs between Linux guests, by soft-RoCE", { needs: ["linux-guest"] }, () => {
  let link: Link;
  const guests: LinuxGuest[] = [];
  beforeAll(async () => {
    link = openLink();
    const extraFiles = await rdmaFiles();
    for (const [index, address] of ADDRESSES.entries()) {
      const guest = await LinuxGuest.boot({
        flavour: "generic",
        memory: 256 << 20,
        nets: [{ kind: "link", fd: link.ends[index] as number }],
        initramfs: { modules: RDMA_MODULES, extraFiles },
      });
      guests.push(guest);
      await guest.sh(`ip addr add ${address}/24 dev eth0; ip link set eth0 up`);
      await guest.sh(`PATH=$PATH:/usr/bin:/sbin rdma link add rxe0 type rxe netdev eth0`);
    }
  });
  afterAll(async () => {
    for (const guest of guests) await guest.dispose();
    link?.close();
  });

  it("ib_send_lat runs, waiting by events", async () => {
    const [server, client] = guests as [LinuxGuest, LinuxGuest];
    const measure = `PATH=$PATH:/usr/bin ib_send_lat -d rxe0 -e -F -n ${COUNT} -s 8`;
    // Refused until the server listens.
    const retry = (command: string) =>
      `n=0; until ${command} >/tmp/out 2>&1 || [ $n = 60 ]; do n=$((n + 1)); sleep 1; done; cat /tmp/out`;
    const [there, here] = await Promise.all([
      server.sh(measure),
      client.sh(retry(`${measure} ${ADDRESSES[0]}`)),
    ]);
    for (const report of [there, here]) {
      expect(report).toMatch(/Transport type\s*: IB/);
      expect(report).toMatch(/Link type\s*: Ethernet/);
    }
    expect(here).toMatch(new RegExp(`^ 8 +${COUNT} +\\d`, "m"));
    for (const guest of guests) {
      expect(await suspiciousMessages(guest)).toEqual([]);
    }
  });
});
