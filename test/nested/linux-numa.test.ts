// SPDX-License-Identifier: Apache-2.0
/** What Linux guests see of NUMA nodes, cores and caches, by stock tools; and guests without exits for halt. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { lscpu, lscpuFiles, suspiciousMessages, toolFiles } from "../support/linux-checks.js";

const MIB = 1 << 20;

suite("a Linux guest with two NUMA nodes", { needs: ["linux-guest"] }, () => {
  let guest: LinuxGuest;
  beforeAll(async () => {
    const [numactl, lscpuProgram] = [await toolFiles("numactl", "numactl"), await lscpuFiles()];
    const known = new Set(numactl.map(({ path }) => path));
    guest = await LinuxGuest.boot({
      cpus: 4,
      coresPerSocket: 2,
      memory: [
        { bytes: 128 * MIB, node: 0 },
        { bytes: 96 * MIB, node: 1 },
      ],
      performance: {
        numa: [
          { cpus: [0, 1], distances: [10, 17] },
          { cpus: [2, 3], distances: [17, 10] },
        ],
      },
      initramfs: { extraFiles: [...numactl, ...lscpuProgram.filter(({ path }) => !known.has(path))] },
    });
  });
  afterAll(() => guest?.dispose());

  it("shows them in numactl -H", async () => {
    const text = await guest.sh("numactl -H");
    expect(text).toContain("available: 2 nodes (0-1)");
    expect(text).toMatch(/^node 0 cpus: 0 1$/m);
    expect(text).toMatch(/^node 1 cpus: 2 3$/m);
    const size = (node: number) => Number(new RegExp(`^node ${node} size: (\\d+) MB$`, "m").exec(text)?.[1]);
    // Less the kernel's own, which is in the first one.
    expect(size(0)).toBeGreaterThan(48);
    expect(size(0)).toBeLessThan(128);
    expect(size(1)).toBeGreaterThan(64);
    expect(size(1)).toBeLessThanOrEqual(96);
    expect(text).toMatch(/^ {2}0: +10 +17 *$/m);
    expect(text).toMatch(/^ {2}1: +17 +10 *$/m);
  });

  it("shows them in lscpu, and its sockets and cores", async () => {
    const text = await guest.sh("LC_ALL=C lscpu");
    expect(text).toMatch(/^NUMA node\(s\): +2$/m);
    expect(text).toMatch(/^NUMA node0 CPU\(s\): +0,1$/m);
    expect(text).toMatch(/^NUMA node1 CPU\(s\): +2,3$/m);
    expect(await lscpu(guest)).toEqual({ cpus: 4, threadsPerCore: 1, coresPerSocket: 2, sockets: 2 });
  });

  it("takes memory from the node that it is told to", async () => {
    const before = async () =>
      Number(/MemFree: +(\d+)/.exec(await guest.sh("cat /sys/devices/system/node/node1/meminfo"))?.[1]);
    await guest.sh("mkdir -p /n && mount -t tmpfs -o mpol=bind:1 none /n");
    const free = await before();
    await guest.sh("dd if=/dev/zero of=/n/x bs=1M count=20 2>/dev/null");
    expect(free - (await before())).toBeGreaterThan(16 * 1024);
  });

  it("finds nothing wrong with its tables and caches", async () => {
    expect(await suspiciousMessages(guest)).toEqual([]);
    const log = await guest.sh("dmesg | grep -iE 'srat|slit|arch topology|not on the same node' || true");
    expect(log).not.toMatch(/invalid|ignored|not used|not on the same node|arch topology/i);
  });
});

suite("two NUMA nodes in one socket", { needs: ["linux-guest"] }, () => {
  it("share no last-level cache, and Linux believes it", async () => {
    await using guest = await LinuxGuest.boot({
      cpus: 2,
      memory: [
        { bytes: 96 * MIB, node: 0 },
        { bytes: 96 * MIB, node: 1 },
      ],
      performance: { numa: [{ cpus: [0] }, { cpus: [1] }] },
    });
    expect(await guest.sh("cat /sys/devices/system/node/online")).toBe("0-1");
    expect(await guest.sh("cat /sys/devices/system/cpu/cpu0/topology/package_cpus_list")).toBe("0-1");
    const shared = await guest.sh(
      "cat /sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list 2>/dev/null || true",
    );
    expect(["", "0"]).toContain(shared);
    const log = await guest.sh("dmesg | grep -iE 'arch topology|not on the same node' || true");
    expect(log).toBe("");
  });
});

suite("a Linux guest without exits for halt and pause", { needs: ["linux-guest"] }, () => {
  it("halts without leaving the guest, and knows that its vCPU is never preempted", async () => {
    await using guest = await LinuxGuest.boot({
      pin: [0],
      performance: { withoutExits: ["halt", "pause"] },
    });
    const before = guest.machine.kvmStats().total.halt_exits ?? 0;
    await guest.sh("sleep 1");
    expect((guest.machine.kvmStats().total.halt_exits ?? 0) - before).toBe(0);
    expect(await suspiciousMessages(guest)).toEqual([]);
  });
});
