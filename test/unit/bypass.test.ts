// SPDX-License-Identifier: Apache-2.0
/** libbypass between processes of this computer, under ASan and UBSan. Alone: make -C bypass tests. */
import { describe, expect, it } from "vitest";
import { bypassBuild, mpirun } from "../support/bypass.js";
import { rounds } from "../support/places.js";

const CHECKS = bypassBuild("asan/checks");

/** Who said that the check passed. */
const passed = (stdout: string) =>
  [...stdout.matchAll(/^peer (\d+): \w+ passed$/gm)].map((match) => Number(match[1])).sort();

describe("libbypass", () => {
  it.each([
    ["ring", "more messages than a ring has slots", 2, []],
    ["ring", "the same in the smallest areas", 4, ["--area", "65536"]],
    ["tags", "receives choose by sender and tag, in order", 2, []],
    ["unexpected", "a sender waits when nobody asks for its messages", 2, []],
    ["large", "messages of all lengths, with and without a copy", 2, []],
    ["onesided", "puts and gets, their events, and what is refused", 2, []],
    ["heap", "memory of the area is given out and taken back", 2, []],
    ["sleep", "a peer sleeps, and a doorbell wakes it", 2, []],
    ["crowd", "eight peers send to all at once", 8, []],
    ["crowd", "the same where areas are small", 4, ["--area", "65536"]],
    ["leave", "what was sent before one leaves arrives", 2, []],
    ["restart", "one that comes again is another", 2, []],
    ["flood", "one that sends without end fills nobody's memory", 3, []],
  ] as const)("%s: %s", async (name, _what, peers, flags) => {
    for (const mode of ["poll", "interrupt"]) {
      const ran = await mpirun(peers, [CHECKS, name], { flags, env: { BYPASS_WAIT: mode } });
      expect(ran.stderr).toBe("");
      expect(passed(ran.stdout)).toEqual(Array.from({ length: peers }, (_, peer) => peer));
      expect(ran.code).toBe(0);
    }
  });

  it("killed: the others get an error, and go on", async () => {
    for (let round = 0; round < rounds(3, 50); round++) {
      const ran = await mpirun(4, [CHECKS, "killed"], { flags: ["--keep-going"] });
      expect(ran.stderr).toBe("");
      expect(passed(ran.stdout)).toEqual([0, 2, 3]);
      expect(ran.code).toBe(128 + 9);
    }
  });

  it("scribble: nonsense in a peer's area neither crashes nor hangs another", async () => {
    for (let seed = 1; seed <= rounds(3, 40); seed++) {
      const env = { SEED: String(seed), ROUNDS: "20" };
      const ran = await mpirun(3, [CHECKS, "scribble"], { env });
      expect(ran.stderr, `seed ${seed}`).toBe("");
      expect(passed(ran.stdout)).toEqual([0, 1, 2]);
    }
  });
});

describe("v3m-mpirun", () => {
  it("ends the others when one fails, with the status of that one", async () => {
    const ran = await mpirun(3, ["sh", "-c", '[ "$BYPASS_PEER" = 1 ] && exit 5; exec sleep 1000']);
    expect(ran.code).toBe(5);
  });

  it("says how it is used", async () => {
    const wrong = await mpirun(0, ["true"]);
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain("example: v3m-mpirun -n 4");
    expect((await mpirun(2, ["/no/such/program"])).stderr).toContain("No such file");
    expect((await mpirun(2, ["true"], { flags: ["--area", "1000"] })).stderr).toContain("no window");
  });
});
