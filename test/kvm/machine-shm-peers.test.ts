// SPDX-License-Identifier: Apache-2.0
/**
 * One of four peers of a channel is killed, stopped, restarted or goes mad, again and again, by chance: the others go on
 * or get an error, none hangs, and nobody ever reads the memory of one that does not show it to him.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { PATIENCE, roundsOf } from "../support/machines.js";
import { MonitorPlace } from "../support/monitors.js";
import { Member, type Report } from "../support/peers.js";
import { FULL } from "../support/places.js";

const PEERS = 4;
const AREA = 16 << 10;
const ROUNDS = roundsOf(4, 8, 200);
/** It is in the message of a failure: V3M_SEED repeats that run. */
const SEED = Number(process.env.V3M_SEED ?? Date.now() % 2 ** 31);

/** Peers talk with their neighbours in a ring. The one opposite must not see them. */
const partners = (peer: number) => [(peer + 1) % PEERS, (peer + PEERS - 1) % PEERS];

/** Numbers from 0 below `below`, by a linear congruential generator. */
function chance(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** All reports of some members, again and again until they are as they should be. None ever says that it leaked. */
async function reports(
  members: readonly Member[],
  good: (all: ReadonlyMap<Member, Report>) => boolean,
): Promise<ReadonlyMap<Member, Report>> {
  for (;;) {
    const all = new Map<Member, Report>();
    for (const member of members) {
      const report = await member.report();
      expect(report.leaks).toBe(0);
      all.set(member, report);
    }
    if (good(all)) return all;
  }
}

async function unlessItHangs(work: Promise<void>): Promise<void> {
  const timer = new AbortController();
  const limit = sleep(PATIENCE, undefined, { signal: timer.signal }).then(() => {
    throw new Error("it hangs");
  });
  limit.catch(() => {}); // when the work has ended first
  try {
    await Promise.race([work, limit]);
  } finally {
    timer.abort();
  }
}

/** Each pair of partners among these, in both directions. */
function pairs(members: readonly Member[]): [Member, number][] {
  const here = new Set(members.map(({ peer }) => peer));
  return members.flatMap((member) =>
    member.partners.filter((other) => here.has(other)).map((other): [Member, number] => [member, other]),
  );
}

const view = (all: ReadonlyMap<Member, Report>, member: Member, of: number) => {
  const found = all.get(member)?.of.get(of);
  if (found === undefined) throw new Error(`peer ${member.peer} says nothing of ${of}`);
  return found;
};

/** Until all partners among these have heard more of each other than there was, without a mistake. */
async function progress(members: readonly Member[]): Promise<void> {
  const talking = pairs(members);
  const before = await reports(members, (all) =>
    talking.every(([member, other]) => view(all, member, other).phase === "fine"),
  );
  const after = await reports(members, (all) =>
    talking.every(
      ([member, other]) => view(all, member, other).heard >= view(before, member, other).heard + 2,
    ),
  );
  for (const [member, other] of talking) {
    expect(view(after, member, other)).toMatchObject({
      phase: "fine",
      errors: view(before, member, other).errors,
    });
  }
}

/** Until the victim's partners see it so. @returns how many errors of its they have counted */
async function seen(victim: Member, others: readonly Member[], phase: string): Promise<number> {
  const around = others.filter(({ partners }) => partners.includes(victim.peer));
  const all = await reports(around, (now) =>
    around.every((member) => view(now, member, victim.peer).phase === phase),
  );
  return around.reduce((sum, member) => sum + view(all, member, victim.peer).errors, 0);
}

/** What may happen to a peer; `others` go on meanwhile. In the end it is there again. */
const EVENTS: Readonly<
  Record<string, (victim: Member, others: readonly Member[], meanwhile: () => Promise<void>) => Promise<void>>
> = {
  async killed(victim, others, meanwhile) {
    victim.signal("SIGKILL");
    await victim.ended();
    await meanwhile();
    await seen(victim, others, "absent");
    await victim.start();
  },
  async "restarted at once"(victim) {
    victim.signal("SIGKILL");
    await victim.ended();
    await victim.start();
  },
  async "shut down"(victim, others, meanwhile) {
    await victim.command("leave");
    await victim.ended();
    await seen(victim, others, "absent");
    await meanwhile();
    await victim.start();
  },
  async paused(victim, others, meanwhile) {
    const before = await seen(victim, others, "fine");
    await victim.machine.pause();
    await meanwhile();
    expect(await seen(victim, others, "fine")).toBe(before);
    victim.machine.resume();
  },
  async stopped(victim, others, meanwhile) {
    victim.signal("SIGSTOP");
    try {
      await meanwhile();
      await seen(victim, others, "fine");
    } finally {
      victim.signal("SIGCONT");
    }
  },
  async noise(victim, others, meanwhile) {
    const before = await seen(victim, others, "fine");
    await victim.command("noise");
    // Both partners find out, and hear no more of it until it comes anew.
    expect(await seen(victim, others, "bad")).toBe(before + 2);
    await meanwhile();
    await victim.command("rejoin");
  },
  async doorbells(victim, _others, meanwhile) {
    const storm = victim.command("storm");
    await meanwhile();
    await storm;
  },
  async trespassing(victim, others, meanwhile) {
    const before = await seen(victim, others, "fine");
    const writing = victim.command("trespass");
    await meanwhile();
    await writing;
    expect(await seen(victim, others, "fine")).toBe(before);
  },
};

suite("shm peers", { needs: ["kvm"] }, () => {
  let place: MonitorPlace;
  beforeAll(() => {
    place = new MonitorPlace();
  });
  afterAll(() => place.remove());

  it(
    "whatever happens to one, the others go on or get an error, and see nothing that is not theirs to see",
    async () => {
      const random = chance(SEED);
      const channel = { place, directory: join(place.root, "channel"), peers: PEERS, areaBytes: AREA };
      const members = Array.from(
        { length: PEERS },
        (_, peer) => new Member({ ...channel, seed: SEED, partners }, peer),
      );
      for (const member of members) await member.start();
      const names = Object.keys(EVENTS);
      const first = random(names.length);
      let last = "the start";
      const round = async (number: number) => {
        const victim = members[random(PEERS)] as Member;
        // A run of few rounds has each of them at most once.
        const next = ROUNDS <= names.length ? first + number : random(names.length);
        const name = names[next % names.length] ?? "";
        last = `round ${number}: peer ${victim.peer} ${name}`;
        const others = members.filter((member) => member !== victim);
        await EVENTS[name]?.(victim, others, () => progress(others));
        await progress(members);
      };
      try {
        await progress(members);
        for (let number = 0; number < ROUNDS; number++) await unlessItHangs(round(number));
      } catch (cause) {
        throw new Error(`V3M_SEED=${SEED}: ${last}: ${(cause as Error).message}`, { cause });
      }
      for (const member of members) {
        await member.command("leave");
        await member.ended();
      }
    },
    PATIENCE * (FULL ? 10 : 2),
  );
});
