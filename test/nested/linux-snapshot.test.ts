// SPDX-License-Identifier: Apache-2.0
/**
 * Linux guests continue after a snapshot and its restore as if nothing had been: a running job, a page cache that is
 * not on the disk yet, an open TCP connection, their clocks. In this process, and in monitors in their jail.
 */
import { createHash } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { compressSnapshot, type Link, openLink, readSnapshot, verifySnapshot } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest, type LinuxOptions } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { nextReset } from "../support/machines.js";
import { gone, MonitorPlace } from "../support/monitors.js";

const MIB = 1 << 20;
const MODULES = ["virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon"];
const COUNT = 20_000;
/** Of two clocks that run at the same speed. */
const CLOCK_ERROR_S = 0.5;
const PATIENCE = 600_000;

const countSum = createHash("md5")
  .update(Array.from({ length: COUNT }, (_, i) => `${i + 1}\n`).join(""))
  .digest("hex");

for (const [cpus, monitored] of [
  [1, false],
  [2, true],
] as const) {
  const where = monitored ? "in monitors" : "in this process";
  suite(`a Linux guest with ${cpus} vCPU${cpus > 1 ? "s" : ""} ${where}, saved and restored`, {
    needs: monitored ? ["linux-guest", "jail"] : ["linux-guest"],
  }, () => {
    let work: string;
    let place: MonitorPlace;
    let link: Link;
    let peer: LinuxGuest;
    let guest: LinuxGuest | undefined;
    let copy: LinuxGuest | undefined;
    let uptime = 0;
    const path = (name: string) => join(work, name);

    const options = (disk: string): LinuxOptions => ({
      cpus,
      memory: 160 * MIB,
      initramfs: { modules: MODULES },
      disks: [{ path: path(disk) }],
      nets: [{ kind: "link", fd: link.ends[0], mac: "52:54:00:00:00:0a" }],
      rng: true,
      balloon: true,
      generationId: "random",
      ...(monitored ? { monitor: { directory: place.directory() } } : {}),
    });

    beforeAll(async () => {
      work = mkdtempSync(join(tmpdir(), "v3m-linux-snapshot-"));
      place = new MonitorPlace();
      link = openLink();
      writeFileSync(path("disk"), Buffer.alloc(8 * MIB, "old"));
      peer = await LinuxGuest.boot({
        initramfs: { modules: ["virtio_net"] },
        nets: [{ kind: "link", fd: link.ends[1], mac: "52:54:00:00:00:0b" }],
      });
      guest = await LinuxGuest.boot(options("disk"));
      await peer.sh("ip addr add 10.1.0.2/24 dev eth0; ip link set eth0 up");
      await guest.sh("ip addr add 10.1.0.1/24 dev eth0; ip link set eth0 up");
      await guest.sh("ping -c 1 -w 60 10.1.0.2");
    }, PATIENCE);
    afterAll(async () => {
      await guest?.dispose();
      await copy?.dispose();
      await peer?.dispose();
      link?.close();
      await place?.remove();
      rmSync(work, { recursive: true, force: true });
    });

    it(
      "is saved in the middle of its work",
      async () => {
        if (guest === undefined) throw new Error("no guest");
        await peer.sh("(sleep 1000 | nc -l -p 7 >/tmp/received) & "); // or it ends with its input
        await guest.sh("mkfifo /tmp/pipe; (nc 10.1.0.2 7 </tmp/pipe; echo closed >/tmp/closed) & ");
        await guest.sh("sleep 1000 >/tmp/pipe & ");
        await guest.sh("echo before >/tmp/pipe");
        while ((await peer.sh("cat /tmp/received")) !== "before") await peer.sh("sleep 0.1");
        await guest.sh(
          `(i=0; while [ $i -lt ${COUNT} ]; do i=$((i+1)); echo $i; done | md5sum >/tmp/sum; echo done >/tmp/done) & `,
        );
        await guest.sh("dd if=/dev/urandom of=/tmp/x bs=64k count=32 2>/dev/null");
        await guest.sh("sleep 1000 </dev/vda & "); // the last to close it would write it back
        await guest.sh("cp /tmp/x /tmp/y; dd if=/tmp/x of=/dev/vda bs=64k 2>/dev/null");
        uptime = Number((await guest.sh("cat /proc/uptime")).split(" ")[0]);
        await guest.machine.pause();
        const said = guest.text.length;
        await guest.machine.snapshot(path("snapshot"), { note: "by a test" });
        expect(guest.machine.state).toBe("paused");
        expect(guest.text.length).toBe(said);
        copyFileSync(path("disk"), path("copy"));
        expect(readFileSync(path("copy")).subarray(0, MIB).includes("old")).toBe(true);
        const info = readSnapshot(path("snapshot"));
        expect(info).toMatchObject({ cpus, memoryBytes: BigInt(160 * MIB), note: Buffer.from("by a test") });
        expect(info.dataBytes).toBeGreaterThan(0n);
        expect(info.dataBytes).toBeLessThan(info.memoryBytes);
        await verifySnapshot(path("snapshot"));
        await guest.dispose();
        guest = undefined;
      },
      PATIENCE,
    );

    it(
      "goes on with its job, its connection, its files and its clock",
      async () => {
        copy = await LinuxGuest.restore(path("snapshot"), options("copy"));
        const now = Number((await copy.sh("cat /proc/uptime")).split(" ")[0]);
        expect(now).toBeGreaterThanOrEqual(uptime);
        expect(await copy.sh("nproc")).toBe(String(cpus));
        await copy.sh("echo after >/tmp/pipe");
        while ((await peer.sh("cat /tmp/received")) !== "before\nafter") await peer.sh("sleep 0.1");
        expect((await copy.run("ls /tmp/closed")).code).not.toBe(0);
        await copy.sh("while [ ! -e /tmp/done ]; do sleep 0.1; done");
        expect(await copy.sh("cut -c1-32 /tmp/sum")).toBe(countSum);
        await copy.sh("sync; echo 3 >/proc/sys/vm/drop_caches; cmp /tmp/x /tmp/y");
        await copy.sh(`cmp -n ${2 * MIB} /tmp/x /dev/vda`);
        expect(await copy.sh("head -c 64 /dev/hwrng | wc -c")).toBe("64");
        expect(await suspiciousMessages(copy)).toEqual([]);
      },
      PATIENCE,
    );

    it(
      "is paused, saved again, and reset into a fresh kernel",
      async () => {
        if (copy === undefined) throw new Error("no guest");
        const before = Number((await copy.sh("cat /proc/uptime")).split(" ")[0]);
        const begin = process.hrtime.bigint();
        await copy.machine.snapshot(path("second"), { base: path("snapshot"), compress: true }); // running: it goes on
        expect(copy.machine.state).toBe("running");
        const after = Number((await copy.sh("cat /proc/uptime")).split(" ")[0]);
        const whole = Number(process.hrtime.bigint() - begin) / 1e9;
        expect(after).toBeGreaterThanOrEqual(before);
        expect(after - before).toBeLessThanOrEqual(whole + CLOCK_ERROR_S);
        await verifySnapshot(path("second"));
        const { bases, ownBytes, dataBytes } = readSnapshot(path("second"));
        expect(bases).toBe(1);
        expect(ownBytes).toBeLessThan(dataBytes);
        const reset = nextReset(copy.machine);
        copy.machine.reset();
        expect(await reset).toBe(1);
        await copy.shell();
        expect((await copy.run("ls /tmp/done")).code).not.toBe(0);
        expect(await copy.sh("nproc")).toBe(String(cpus));
        copy.type("poweroff -f\n");
        expect((await copy.ended()).cause).toBe("poweroff");
      },
      PATIENCE,
    );

    it(
      "can be restored from one snapshot more than once, the second time from a compressed copy",
      async () => {
        await copy?.dispose();
        await compressSnapshot(path("snapshot"), path("compressed"));
        const { storedBytes, ownBytes } = readSnapshot(path("compressed"));
        expect(storedBytes).toBeLessThan((ownBytes * 3n) / 4n);
        const again = options("copy");
        copy = await LinuxGuest.restore(path("compressed"), again);
        await copy.sh("while [ ! -e /tmp/done ]; do sleep 0.1; done");
        expect(await copy.sh("cut -c1-32 /tmp/sum")).toBe(countSum);
        if (again.monitor === undefined) return;
        copy.type("poweroff -f\n");
        expect((await gone(again.monitor.directory)).text).toBe("the guest powered off");
      },
      PATIENCE,
    );
  });
}
