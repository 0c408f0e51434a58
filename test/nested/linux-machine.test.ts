// SPDX-License-Identifier: Apache-2.0
/** Linux guests in machines of other shapes: topology, memory of several sizes and backings, two at once. */
import { expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { LinuxGuest, type LinuxOptions } from "../support/linux.js";
import { lscpu, lscpuFiles, suspiciousMessages, sysfsTopology } from "../support/linux-checks.js";
import { FULL } from "../support/places.js";

const MIB = 1 << 20;
const GIB = 1 << 30;

async function memTotal(guest: LinuxGuest): Promise<number> {
  return Number(/MemTotal:\s+(\d+) kB/.exec(await guest.sh("cat /proc/meminfo"))?.[1]) * 1024;
}

suite("topology of a Linux guest", { needs: ["linux-guest"] }, () => {
  // Sockets, cores in each, threads in each of these.
  const shapes = [
    [2, 1, 2],
    ...(FULL
      ? [
          [2, 2, 2],
          [1, 2, 2],
          [4, 1, 1],
          [1, 3, 1],
        ]
      : []),
  ];
  it.each(shapes)("%i sockets × %i cores × %i threads", async (sockets, cores, threads) => {
    const cpus = (sockets ?? 1) * (cores ?? 1) * (threads ?? 1);
    await using guest = await LinuxGuest.boot({
      cpus,
      coresPerSocket: cores ?? 1,
      threadsPerCore: threads ?? 1,
      initramfs: { extraFiles: await lscpuFiles() },
    });
    expect(await lscpu(guest)).toEqual({ cpus, threadsPerCore: threads, coresPerSocket: cores, sockets });
    const seen = await sysfsTopology(guest);
    expect(new Set(seen.map((cpu) => cpu.package)).size).toBe(sockets);
    expect(new Set(seen.map((cpu) => `${cpu.package}:${cpu.core}`)).size).toBe((sockets ?? 1) * (cores ?? 1));
    expect(new Set(seen.map((cpu) => cpu.siblings)).size).toBe((sockets ?? 1) * (cores ?? 1));
    expect(await suspiciousMessages(guest)).toEqual([]);
  });
});

suite("memory of a Linux guest", { needs: ["linux-guest"] }, () => {
  it("96 MiB are enough", async () => {
    await using guest = await LinuxGuest.boot({ memory: 96 * MIB });
    const total = await memTotal(guest);
    expect(total).toBeGreaterThan(48 * MIB);
    expect(total).toBeLessThan(96 * MIB);
  });

  it("3.5 GiB lie round the hole below 4 GiB", async () => {
    await using guest = await LinuxGuest.boot({ memory: [{ bytes: 3.5 * GIB, backing: "thp" }] });
    const total = await memTotal(guest);
    expect(total).toBeGreaterThan(3.3 * GIB);
    expect(total).toBeLessThan(3.5 * GIB);
    const ram = (await guest.sh("grep 'System RAM' /proc/iomem")).split("\n");
    expect(ram.at(-2)).toMatch(/^00100000-bfffffff/);
    expect(ram.at(-1)).toMatch(/^100000000-11fffffff/);
    expect(guest.machine.memory.regions).toEqual([
      { gpa: 0n, bytes: BigInt(3 * GIB) },
      { gpa: BigInt(4 * GIB), bytes: BigInt(GIB / 2) },
    ]);
    expect(await suspiciousMessages(guest)).toEqual([]);
  });

  it("several regions of different backings are one memory to the guest", async () => {
    await using guest = await LinuxGuest.boot({
      memory: [
        { bytes: 96 * MIB, backing: "anon", prefault: true },
        { bytes: 64 * MIB, backing: "memfd" },
        { bytes: 32 * MIB, backing: "thp" },
      ],
    });
    const total = await memTotal(guest);
    expect(total).toBeGreaterThan(150 * MIB);
    expect(total).toBeLessThan(192 * MIB);
    // More than one region is written and read: what was written must come back.
    const sum = "md5sum </tmp/a";
    await guest.sh("head -c 60000000 /dev/urandom >/tmp/a");
    expect(await guest.sh(sum)).toBe(await guest.sh(`cat /tmp/a >/dev/null; ${sum}`));
  });
});

suite("two Linux guests in one process", { needs: ["linux-guest"] }, () => {
  it("boot at once, run side by side, and end one by one", async () => {
    const shapes: LinuxOptions[] = [
      { cpus: 1, memory: [{ bytes: 128 * MIB, backing: "memfd" }] },
      { cpus: 2, memory: [{ bytes: 128 * MIB, backing: "thp" }] },
    ];
    const guests = await Promise.all(shapes.map((shape) => LinuxGuest.boot(shape)));
    const [first, second] = guests as [LinuxGuest, LinuxGuest];
    try {
      expect(await Promise.all(guests.map((guest) => guest.sh("nproc")))).toEqual(["1", "2"]);
      await Promise.all(guests.map((guest, i) => guest.sh(`echo ${i} > /tmp/me`)));
      expect(await Promise.all(guests.map((guest) => guest.sh("cat /tmp/me")))).toEqual(["0", "1"]);
      first.type("poweroff -f\n");
      expect(await first.ended()).toMatchObject({ cause: "poweroff" });
      await first.dispose();
      expect(await second.sh("cat /tmp/me")).toBe("1");
      expect(second.machine.kvmStats().guestExits).toBeGreaterThan(0);
    } finally {
      await Promise.all(guests.map((guest) => guest.dispose()));
    }
  });
});
