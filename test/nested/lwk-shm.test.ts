// SPDX-License-Identifier: Apache-2.0
/** A channel of shared memory from the lightweight kernel: polled without an exit, by doorbells, with Linux, and misused. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { Channel } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { rounds } from "../support/places.js";
import { App, program, runApp, statusOf } from "../support/yod.js";

const PROGRAM = program("shm.musl");
const AREA = 1 << 20;

suite("a channel from the lightweight kernel", { needs: ["lwk"] }, () => {
  const newChannel = () => Channel.create({ peers: 2, areaBytes: AREA });

  it("finds what all peers write, and the areas behind it", async () => {
    using channel = Channel.create({ peers: 2, areaBytes: AREA, commonBytes: 8192 });
    const count = String(rounds(10, 100));
    await using other = await App.start(PROGRAM, ["common", "0", count], { shm: { channel, peer: 1 } });
    const run = await runApp(PROGRAM, ["common", "1", count], { shm: { channel, peer: 0 } });
    for (const { stdout } of [run, await other.finish()]) {
      expect(stdout).toContain(`common 8192 bytes, messages ${count}\n`);
    }
    const probe = await runApp(PROGRAM, ["probe", "1"], { shm: { channel, peer: 0 } });
    expect(statusOf(probe)).toBe(0);
    expect(probe.stdout).not.toContain("NO");
  });

  it("needs no exit for messages that are polled for", async () => {
    using channel = newChannel();
    await using echo = await App.start(PROGRAM, ["echo", "0", "poll"], { shm: { channel, peer: 1 } });
    await using ping = await App.start(PROGRAM, ["ping", "1", "0", "poll"], {
      shm: { channel, peer: 0 },
    });
    await ping.saw("warm\n");
    await sleep(100); // both are past their last character, and poll
    const exits = () => [ping, echo].map(({ launched }) => launched.guestExits());
    const before = exits();
    await sleep(rounds(2000, 10_000));
    for (const [i, count] of exits().entries()) {
      // A vCPU that a host's interrupt has just thrown out is counted as that a moment later.
      expect(Math.abs(count - (before[i] ?? -1))).toBeLessThanOrEqual(1);
    }
    ping.launched.signal("SIGTERM");
    const [a, b] = await Promise.all([ping.finish(), echo.finish()]);
    expect([statusOf(a), statusOf(b)]).toEqual([0, 0]);
    expect(a.stdout).toMatch(/^peer 0 of 2\nwarm\nmessages \d+\ninterrupts 0\n$/);
    expect(Number(/messages (\d+)/.exec(a.stdout)?.[1])).toBeGreaterThan(10 + rounds(20, 100));
    expect(b.stdout).toBe("peer 1 of 2\nend\ninterrupts 0\n");
  });

  it.each([1, 2])("wakes the other by doorbells, on %i vCPUs", async (cpus) => {
    const count = rounds(50, 1000);
    using channel = newChannel();
    await using echo = await App.start(PROGRAM, ["echo", "0", "wait"], { shm: { channel, peer: 1 }, cpus });
    const ping = await runApp(PROGRAM, ["ping", "1", String(count), "wait"], {
      shm: { channel, peer: 0 },
      cpus,
    });
    const other = await echo.finish();
    expect(ping.stdout).toContain(`messages ${count}\n`);
    for (const run of [ping, other]) {
      expect(statusOf(run)).toBe(0);
      expect(Number(/interrupts (\d+)/.exec(run.stdout)?.[1])).toBeGreaterThan(count / 4);
    }
  });

  it("waits for an interrupt no longer than told", async () => {
    using channel = newChannel();
    await using waiter = await App.start(PROGRAM, ["timeout", "300"], { shm: { channel, peer: 1 } });
    await waiter.saw("poll 0 after that time\n");
    expect(statusOf(await runApp(PROGRAM, ["ring", "1", "2"], { shm: { channel, peer: 0 } }))).toBe(0);
    expect((await waiter.finish()).stdout).toContain("poll 1 revents 1, 1 by vector 2\n");
  });

  it("ends a wait by a signal", async () => {
    using channel = newChannel();
    await using app = await App.start(PROGRAM, ["timeout", "1000000"], { shm: { channel, peer: 0 } });
    await app.saw("peer 0 of 2\n");
    app.launched.signal("SIGTERM");
    expect((await app.finish()).outcome).toMatchObject({ kind: "signal", name: "SIGTERM" });
  });

  it("gives what is the peer's own, and nothing else", async () => {
    using channel = newChannel();
    const run = await runApp(PROGRAM, ["probe", "1"], { shm: { channel, peer: 0 } });
    expect(statusOf(run)).toBe(0);
    const answers = run.stdout.split("\n").filter((line) => /: (yes|NO)$/.test(line));
    expect(answers).toHaveLength(7);
    expect(answers.filter((line) => line.endsWith("NO"))).toEqual([]);
  });

  it.each([1, 2])("is misused at random, and all others go on, on %i vCPUs", async (cpus) => {
    using channel = Channel.create({ peers: 3, areaBytes: AREA });
    const count = rounds(50, 500);
    await using echo = await App.start(PROGRAM, ["echo", "2", "wait"], { shm: { channel, peer: 1 } });
    await using hostile = await App.start(
      program("shm-hostile.musl"),
      [String(rounds(2000, 50_000)), String(cpus)],
      {
        shm: { channel, peer: 0 },
        cpus,
      },
    );
    const ping = await runApp(PROGRAM, ["ping", "1", String(count), "wait"], { shm: { channel, peer: 2 } });
    expect(ping.stdout).toContain(`messages ${count}\n`);
    expect((await echo.finish()).stdout).toContain("end\n");
    const run = await hostile.finish();
    expect(statusOf(run)).toBe(0);
    expect(run.stdout).toBe("still there: 1 1\n");
  });

  it("is no file where there is no channel", async () => {
    const run = await runApp(program("ranks.glibc"), ["ring", "1"], {
      env: { V3M_RANK: "0", V3M_RANKS: "2" },
    });
    expect(statusOf(run)).toBe(1);
    expect(run.stderr).toBe("ranks: /dev/v3m-shm: No such file or directory\n");
  });
});

suite("a channel between Linux and the lightweight kernel", { needs: ["lwk", "linux-guest"] }, () => {
  it("has the same program at both ends", async () => {
    const count = rounds(50, 500);
    using channel = Channel.create({ peers: 2, areaBytes: AREA });
    const data = await readFile(PROGRAM);
    await using linux = await LinuxGuest.boot({
      shm: [{ channel, peer: 0 }],
      initramfs: {
        extraFiles: [{ type: "file", path: "bin/shm", data, mode: 0o755 }],
        modules: ["uio_pci_generic"],
      },
    });
    await using echo = await App.start(PROGRAM, ["echo", "0", "wait"], { shm: { channel, peer: 1 } });
    expect(await linux.sh(`shm ping 1 ${count} wait`)).toContain(`peer 0 of 2\nmessages ${count}\n`);
    expect((await echo.finish()).stdout).toContain("peer 1 of 2\nend\n");
  });
});
