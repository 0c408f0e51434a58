// SPDX-License-Identifier: Apache-2.0
/** Two Linux guests in one channel, from user space with stock modules: by memory, and by interrupts. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { Channel } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { rounds } from "../support/places.js";

const PROGRAM = join(packageRoot(), "test/programs/build/shm.musl");

const COMMON = 64 << 10;

suite("a channel between Linux guests", { needs: ["linux-guest"] }, () => {
  let channel: Channel;
  const guests: LinuxGuest[] = [];
  beforeAll(async () => {
    channel = Channel.create({ peers: 2, areaBytes: 1 << 20, commonBytes: COMMON });
    const program = { type: "file", path: "bin/shm", data: await readFile(PROGRAM), mode: 0o755 } as const;
    for (const peer of [0, 1]) {
      guests.push(
        await LinuxGuest.boot({
          shm: [{ channel, peer }],
          initramfs: { extraFiles: [program], modules: ["uio_pci_generic"] },
        }),
      );
    }
  });
  afterAll(async () => {
    for (const guest of guests) await guest.dispose();
    channel?.close();
  });

  const pair = async (how: "poll" | "wait", count: number) => {
    const [ping, echo] = guests as [LinuxGuest, LinuxGuest];
    const [a, b] = await Promise.all([ping.sh(`shm ping 1 ${count} ${how}`), echo.sh(`shm echo 0 ${how}`)]);
    expect(a).toContain(`peer 0 of 2\nmessages ${count}\n`);
    expect(b).toContain("peer 1 of 2\nend\n");
    return [a, b].map((text) => Number(/interrupts (\d+)/.exec(text)?.[1]));
  };

  it("the window can be mapped cacheable", async () => {
    const [guest] = guests as [LinuxGuest];
    // The type that /dev/mem takes for addresses that are no RAM: that of the MTRRs.
    await guest.sh("mount -t debugfs none /sys/kernel/debug");
    const map =
      "shm echo 1 wait >/tmp/out & sleep 1; cat /sys/kernel/debug/x86/pat_memtype_list; kill $!; wait";
    const list = await guest.sh(map);
    const window = await guest.sh(
      "for d in /sys/bus/pci/devices/*; do [ $(cat $d/vendor) = 0x110a ] && sed -n 3p $d/resource; done",
    );
    const start = (window.split(" ")[0] ?? "").replace(/^0x0*/, "");
    expect(list.split("\n").find((line) => line.includes(`0x${start.padStart(16, "0")}`))).toMatch(
      /write-back/,
    );
  });

  it("they talk by memory alone", async () => {
    expect(await pair("poll", rounds(20, 200))).toEqual([0, 0]);
  });

  it("each writes what the other one polls, in the common section", async () => {
    const count = rounds(20, 200);
    const said = await Promise.all(guests.map((guest, peer) => guest.sh(`shm common ${1 - peer} ${count}`)));
    for (const text of said) expect(text).toContain(`common ${COMMON} bytes, messages ${count}\n`);
  });

  it("they wake each other by interrupts, through uio_pci_generic", async () => {
    const count = rounds(50, 1000);
    for (const interrupts of await pair("wait", count)) {
      expect(interrupts).toBeGreaterThan(count / 4);
    }
    for (const guest of guests) {
      expect(await suspiciousMessages(guest)).toEqual([]);
    }
  });
});
