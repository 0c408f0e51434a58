// SPDX-License-Identifier: Apache-2.0
/** Channels of shared memory: messages between machines without an exit, doorbells, and what peers cannot do. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { pingPong } from "../../examples/ping-pong.js";
import { Channel, Machine, type MachineOptions } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { finish, guest, PATIENCE, roundsOf, Transcript } from "../support/machines.js";
import { MonitorPlace } from "../support/monitors.js";

const AREA = 64 << 10;
/** Three quadwords of RAM, by which test and guest tell each other what is done without an exit. */
const CONTROL = 0x20_0000;

/** Of a section that all peers write. */
const COMMON = 8 << 10;

const MODE = { MEMORY: 0, DOORBELL: 1, HOSTILE: 2, MEASURE: 3 } as const;

interface Peer {
  readonly machine: Machine;
  readonly transcript: Transcript;
}

suite("shm", { needs: ["kvm"] }, () => {
  let work: string;
  let place: MonitorPlace;
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), "v3m-shm-"));
    place = new MonitorPlace();
  });
  afterAll(async () => {
    await place.remove();
    rmSync(work, { recursive: true, force: true });
  });

  async function start(machine: Machine): Promise<Peer> {
    const transcript = new Transcript(machine);
    machine.start();
    return { machine, transcript };
  }

  const peerGuest = (
    channel: Channel,
    peer: number,
    parameters: { mode?: number; count?: number; partner?: number; control?: number; bytes?: number } = {},
    visibleTo: "all" | number[] = "all",
  ): MachineOptions => guest("shm", parameters, { shm: [{ channel, peer, visibleTo }] });

  const memoryOf = (machine: Machine) => {
    const bytes = machine.memory.bytes(CONTROL, 24);
    return new BigInt64Array(bytes.buffer, bytes.byteOffset, 3);
  };

  it(
    "messages by memory need no exit of either guest",
    async () => {
      const count = roundsOf(200, 5000, 100_000);
      using channel = Channel.create({ peers: 2, areaBytes: AREA });
      await using echo = await Machine.create(peerGuest(channel, 1));
      await using ping = await Machine.create(peerGuest(channel, 0, { count, control: CONTROL }));
      const b = await start(echo);
      const a = await start(ping);
      await a.transcript.until("shm: warm\n");
      await b.transcript.until("shm: here\n");
      const control = memoryOf(ping);
      const quiet = async () => {
        await sleep(50); // both are past their last character, and spin
        return [ping, echo].map((machine) => ({
          runs: machine.stats().vcpus[0]?.runs ?? -1,
          guest: machine.kvmStats().guestExits,
        }));
      };
      const before = await quiet();
      control[0] = 1n;
      while (control[1] === 0n) await sleep(1);
      const after = await quiet();
      for (const [i, { runs, guest }] of after.entries()) {
        expect(runs).toBe(before[i]?.runs);
        // A vCPU that a host's interrupt has just thrown out is counted as that a moment later.
        expect(Math.abs(guest - (before[i]?.guest ?? -1))).toBeLessThanOrEqual(1);
      }
      control[2] = 1n;
      expect(await a.transcript.ended).toContain(`shm: messages ${count}\nshm: ok\n`);
      expect(await b.transcript.ended).toMatch(/shm: ok\n$/);
    },
    PATIENCE,
  );

  it(
    "doorbells wake the peer that sleeps, and no one else",
    async () => {
      const count = roundsOf(20, 200, 5000);
      using channel = Channel.create({ peers: 3, areaBytes: AREA });
      await using sleeper = await Machine.create(peerGuest(channel, 2, { mode: MODE.DOORBELL }));
      await using other = await Machine.create(peerGuest(channel, 1, { mode: MODE.DOORBELL }));
      await using ringer = await Machine.create(
        peerGuest(channel, 0, { mode: MODE.DOORBELL, count, partner: 2 }),
      );
      const b = await start(sleeper);
      const c = await start(other);
      await b.transcript.until("shm: here\n");
      await c.transcript.until("shm: here\n");
      const { output } = await finish(ringer);
      expect(output).toContain(`shm: messages ${count}\n`);
      const rung = Number(/shm: rung (\d+)\n/.exec(await b.transcript.ended)?.[1]);
      // Each message but those that came before it slept again; the last one; nobody rings without one.
      expect(rung).toBeGreaterThan(count / 2);
      expect(rung).toBeLessThanOrEqual(count + 101);
      expect(c.transcript.text).not.toContain("rung");
    },
    PATIENCE,
  );

  it(
    "what a peer writes into another's area, the table or nonsense into registers changes nothing",
    async () => {
      using channel = Channel.create({ peers: 2, areaBytes: AREA });
      await using ping = await Machine.create(peerGuest(channel, 0, { count: 10 }));
      const a = await start(ping);
      await a.transcript.until("shm: here\n");
      const hostile = await Machine.create(peerGuest(channel, 1, { mode: MODE.HOSTILE }));
      const { output } = await finish(hostile);
      await hostile.dispose(); // until then it has its place
      const [, first, still] = /shm: read (0x\w+)\nshm: still (0x\w+) id 1\n/.exec(output) ?? [];
      expect(first).toBe("0x1");
      expect(still).toBe("0x1");
      expect(ping.state).toBe("running");
      // It waits for an echo of what it said; the next one at that place gives it.
      await using echo = await Machine.create(peerGuest(channel, 1));
      const b = await start(echo);
      expect(await a.transcript.ended).toContain("shm: messages 10\nshm: ok\n");
      expect(await b.transcript.ended).toMatch(/shm: ok\n$/);
    },
    PATIENCE,
  );

  it(
    "in a common section both sides write what the other one reads, and data are in areas behind it",
    async () => {
      const count = roundsOf(20, 500, 5000);
      const directory = join(work, "common");
      const member = (peer: number, commonBytes = COMMON): MachineOptions =>
        guest(
          "shm",
          { mode: MODE.MEASURE, count, bytes: 4096 },
          { shm: [{ directory, peers: 2, areaBytes: AREA, commonBytes, peer }] },
        );
      // One in a jailed monitor, one in this process.
      const pong = await Machine.spawn(member(1), { directory: place.directory() });
      const b = await start(pong);
      await b.transcript.until("shm: here\n");
      await expect(Machine.create(member(0, 0))).rejects.toMatchObject({
        code: "E_INVALID",
        message: expect.stringContaining(`bytes each and ${COMMON} in common, not 2 with ${AREA} and 0`),
      });
      await using ping = await Machine.create(member(0));
      const { output } = await finish(ping);
      expect(output).toMatch(/shm: ticks [1-9]\d*\nshm: ok\n$/);
      expect(await b.transcript.ended).toMatch(/shm: ok\n$/);
      await pong.quit().catch(() => {});
      await pong.dispose();
    },
    PATIENCE,
  );

  it(
    "beside a common section, areas and the table stay their owners'",
    async () => {
      using channel = Channel.create({ peers: 2, areaBytes: AREA, commonBytes: COMMON });
      await using ping = await Machine.create(peerGuest(channel, 0, { count: 10 }));
      const a = await start(ping);
      await a.transcript.until("shm: here\n");
      const hostile = await Machine.create(peerGuest(channel, 1, { mode: MODE.HOSTILE }));
      const { output } = await finish(hostile);
      await hostile.dispose();
      expect(output).toContain("shm: read 0x1\nshm: still 0x1 id 1\n");
      await using echo = await Machine.create(peerGuest(channel, 1));
      const b = await start(echo);
      expect(await a.transcript.ended).toContain("shm: messages 10\nshm: ok\n");
      expect(await b.transcript.ended).toMatch(/shm: ok\n$/);
    },
    PATIENCE,
  );

  it(
    "a peer that is killed hinders no one, and another takes its place",
    async () => {
      using channel = Channel.create({ peers: 3, areaBytes: AREA });
      await using echo = await Machine.create(peerGuest(channel, 1));
      const b = await start(echo);
      await b.transcript.until("shm: here\n");
      for (let round = 0; round < roundsOf(1, 3, 50); round++) {
        {
          await using doomed = await Machine.create(peerGuest(channel, 0, { count: 2 ** 40 }));
          const a = await start(doomed);
          await a.transcript.until("shm: here\n");
          if (round === 0) {
            await expect(Machine.create(peerGuest(channel, 0))).rejects.toMatchObject({
              code: "E_STATE",
              message: expect.stringContaining("peer 0 is there already"),
            });
          }
          await sleep(10);
        }
        expect(echo.state).toBe("running");
      }
      await using ping = await Machine.create(peerGuest(channel, 0, { count: 50 }));
      expect((await finish(ping)).output).toContain("shm: messages 50\n");
      expect(await b.transcript.ended).toMatch(/shm: ok\n$/);
    },
    PATIENCE,
  );

  it(
    "machines in jailed monitors meet in a channel of a directory's",
    async () => {
      const directory = join(work, "channel");
      const count = roundsOf(20, 500, 500);
      const member = (peer: number, peers = 2): MachineOptions =>
        guest("shm", { count }, { shm: [{ directory, peers, areaBytes: AREA, peer }] });
      const echo = await Machine.spawn(member(1), { directory: place.directory() });
      const b = await start(echo);
      await b.transcript.until("shm: here\n");
      await expect(Machine.create(member(0, 3))).rejects.toMatchObject({
        code: "E_INVALID",
        message: expect.stringContaining("the channel has 2 peers"),
      });
      const ping = await Machine.spawn(member(0), { directory: place.directory() });
      const a = await start(ping);
      expect(await a.transcript.ended).toContain(`shm: messages ${count}\nshm: ok\n`);
      expect(await b.transcript.ended).toMatch(/shm: ok\n$/);
      for (const machine of [echo, ping]) {
        await machine.quit().catch(() => {});
        await machine.dispose();
      }
    },
    PATIENCE,
  );

  it(
    "examples/ping-pong passes words between two machines",
    async () => {
      expect(await pingPong(roundsOf(20, 200, 10_000))).toBeGreaterThan(0);
    },
    PATIENCE,
  );

  it(
    "a machine with a channel cannot be saved, and goes on",
    async () => {
      using channel = Channel.create({ peers: 2, areaBytes: AREA });
      await using echo = await Machine.create(peerGuest(channel, 1));
      const b = await start(echo);
      await b.transcript.until("shm: here\n");
      await expect(echo.snapshot(join(work, "snapshot"))).rejects.toMatchObject({
        code: "E_UNSUPPORTED",
        message: expect.stringContaining("cannot be saved"),
      });
      expect(echo.state).toBe("running");
    },
    PATIENCE,
  );
});
