// SPDX-License-Identifier: Apache-2.0
/** `v2m yod --ranks`: ranks that work together over their channel, and how they end. */
import { expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { rounds } from "../support/places.js";
import { start, v2m } from "../support/v2m.js";
import { program } from "../support/yod.js";

const RANKS = 4;
const yod = ["yod", "--memory", "64M", "--ranks", String(RANKS)];
const lines = (text: string) => text.trim().split("\n").sort();
const all = (text: string) => Array.from({ length: RANKS }, (_, rank) => `[${rank}] ${text}`);

suite("ranks of v2m yod", { needs: ["lwk"] }, () => {
  it.each(["musl", "glibc"])("pass a token round (%s)", async (variant) => {
    const count = rounds(20, 200);
    const outcome = await v2m(...yod, "--prefix", program(`ranks.${variant}`), "ring", String(count));
    expect(outcome.code).toBe(0);
    expect(lines(outcome.stdout)).toEqual(all(`token ${(count * RANKS * (RANKS + 1)) / 2}`));
    expect(lines(outcome.stderr).map((line) => line.replace(/\d+$/, "…"))).toEqual(all("waits …"));
  });

  it("all get the sum of what each has", async () => {
    const count = 100_000;
    const outcome = await v2m(...yod, "--prefix", program("ranks.musl"), "sum", String(count));
    expect(outcome.code).toBe(0);
    const sum = ((RANKS * (RANKS + 1)) / 2) * ((count * (count - 1)) / 2);
    expect(lines(outcome.stdout)).toEqual(all(`sum ${sum}`));
  });

  it("have areas of the size that was asked for", async () => {
    const small = ["--channel-size", "64K", program("ranks.musl"), "sum"];
    expect(await v2m(...yod, ...small, "10000")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("ranks: an area holds less"),
    });
    expect((await v2m(...yod, ...small, "1000")).code).toBe(0);
  });

  it("have no channel where none is wanted", async () => {
    const outcome = await v2m(...yod, "--channel-size", "0", program("ranks.musl"), "ring", "1");
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toContain("/dev/v3m-shm: No such file or directory");
  });

  it("end when one fails, with its exit code", async () => {
    expect((await v2m(...yod, program("ranks.musl"), "fail", "2", "41")).code).toBe(41);
  });

  it("end by Ctrl-C", async () => {
    const run = start(...yod, "--prefix", program("ranks.musl"), "fail", "99", "1");
    for (let rank = 0; rank < RANKS; rank++) await run.saw(`[${rank}] here\n`);
    run.child.kill("SIGINT");
    expect(await run.outcome).toMatchObject({ code: 130, signal: null });
  });
});
