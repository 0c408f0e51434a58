// SPDX-License-Identifier: Apache-2.0
/** A Linux guest and its host on a tap device, the data moved by V3M or by the host's vhost-net. */
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { rounds } from "../support/places.js";
import { download, md5, upload } from "../support/transfer.js";

const HOST = "10.8.0.1";
const GUEST = "10.8.0.2";
const BYTES = rounds(2, 16) << 20;

/** Load a module of the host's for a device file, where it is not there already. */
function need(device: string, module: string): void {
  if (!existsSync(device)) spawnSync("modprobe", [module], { stdio: "ignore" });
}

suite("a Linux guest on a tap device", { needs: ["linux-guest", "root"] }, () => {
  describe.each([false, true])("vhost-net: %s", (vhost) => {
    it("sends and receives, also after its driver was bound anew", async () => {
      need("/dev/net/tun", "tun");
      if (vhost) need("/dev/vhost-net", "vhost_net");
      const before = new Set(readdirSync("/sys/class/net"));
      await using guest = await LinuxGuest.boot({
        cpus: 1,
        memory: 192 << 20,
        initramfs: { modules: ["virtio_net"] },
        nets: [{ kind: "tap", name: "v3mt%d", vhost }],
      });
      const tap = readdirSync("/sys/class/net").find((name) => !before.has(name)) ?? "";
      execFileSync("ip", ["addr", "add", `${HOST}/24`, "dev", tap]);
      execFileSync("ip", ["link", "set", tap, "up"]);
      const up = `ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up`;
      await guest.sh(up);
      const content = randomBytes(BYTES);
      expect(await download(guest, HOST, content)).toBe(md5(content));
      const [sent, received] = await upload(guest, HOST, BYTES);
      expect(received).toBe(sent);
      await guest.sh("cd /sys/bus/virtio/drivers/virtio_net; echo virtio0 >unbind; echo virtio0 >bind; cd /");
      await guest.sh(up);
      expect(await download(guest, HOST, content)).toBe(md5(content));
      const { output } = await guest.run("dmesg -r | grep -E '^<[0-4]>' | grep -i -E 'virtio|eth0|net'");
      expect(output).toBe("");
    });
  });
});
