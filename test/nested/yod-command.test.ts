// SPDX-License-Identifier: Apache-2.0
/** `v2m yod` as a user types it: like a local command. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { Observed, start, V2M, v2m } from "../support/v2m.js";
import { BUSYBOX, program } from "../support/yod.js";

const yod = ["yod", "--memory", "64M"];

suite("v2m yod", { needs: ["lwk"] }, () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-yod-"));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it("has the application's output and exit code, and says nothing of its own", async () => {
    const outcome = await v2m(...yod, BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 42");
    expect(outcome).toMatchObject({ code: 42, signal: null, stdout: "out\n", stderr: "err\n" });
  });

  it("passes what is typed on, and what stands behind the application", async () => {
    const run = start(...yod, BUSYBOX, "grep", "--", "-x");
    run.type("a\nb -x\n");
    run.child.stdin?.end();
    expect(await run.outcome).toMatchObject({ code: 0, stdout: "b -x\n", stderr: "" });
  });

  it("passes the environment, with changes", async () => {
    const run = new Observed([...V2M, ...yod, "--env", "MORE=1", "--env", "HOME=/", "busybox", "env"], {
      V3M_MARK: "yes",
    });
    run.child.stdin?.end();
    const { stdout } = await run.outcome;
    expect(stdout.split("\n")).toEqual(expect.arrayContaining(["V3M_MARK=yes", "MORE=1", "HOME=/"]));
    const clear = await v2m(...yod, "--clear-env", "--env", "A=b", BUSYBOX, "env");
    expect(clear.stdout).toBe("A=b\n");
  });

  it("is interrupted like a local command", async () => {
    const run = start(...yod, program("launched.musl"), "sleep");
    await run.saw("sleeping");
    run.child.kill("SIGINT");
    expect(await run.outcome).toMatchObject({ code: 130, signal: null, stderr: "" });
  });

  it("passes other signals on, and the application decides", async () => {
    const run = start(...yod, program("launched.musl"), "listen");
    await run.saw("listening");
    for (const [name, number] of [
      ["SIGUSR1", 10],
      ["SIGWINCH", 28],
      ["SIGINT", 2],
    ] as const) {
      run.child.kill(name);
      await run.saw(`signal ${number}\n`);
    }
    run.child.kill("SIGTERM");
    expect((await run.outcome).code).toBe(7);
  });

  it("ends like a local command when its reader goes away", async () => {
    const command = [...V2M, ...yod, BUSYBOX, "yes"].join(" ");
    const run = new Observed(["bash", "-c", `${command} | head -n 1; echo \${PIPESTATUS[*]}`]);
    run.child.stdin?.end();
    expect((await run.outcome).stdout).toBe("y\n141 0\n");
  });

  it("reports a crash, with exit code 139", async () => {
    const { code, stderr } = await v2m(...yod, program("launched.glibc"), "null");
    expect(code).toBe(139);
    expect(stderr).toMatch(
      /^v2m yod: .*launched\.glibc ended by SIGSEGV \(segmentation fault\) in thread \d+ on CPU 0/,
    );
    expect(stderr).toMatch(/write to address 0x0 by code at store_deeply/);
    expect(stderr).toMatch(/#0 .*store_deeply[\s\S]*#1 .*call_store[\s\S]*#2 .*main/);
  });

  it("ends when its time is over, with exit code 124", async () => {
    const outcome = await v2m(...yod, "--timeout", "1", BUSYBOX, "sleep", "100");
    expect(outcome.code).toBe(124);
    expect(outcome.stderr).toMatch(/still running after 1 s and was ended \[E_TIMEOUT\]/);
  });

  it("shows figures where asked to", async () => {
    const outcome = await v2m(...yod, "--stats", BUSYBOX, "true");
    expect(outcome.code).toBe(0);
    expect(outcome.stderr).toMatch(/power-on to its first instruction +[\d.]+ (µs|ms|s)/);
    expect(outcome.stderr).toMatch(/system calls shipped +\d+/);
  });

  it("shows them in one line of JSON", async () => {
    const { code, stderr } = await v2m(...yod, "--json", BUSYBOX, "false");
    expect(code).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({
      exitCode: 1,
      kind: "exit",
      status: 1,
      timedOut: false,
      statistics: { appNs: expect.any(Number), notProvided: expect.any(Array) },
    });
  });

  it("writes beneath a writable root", async () => {
    const file = join(directory, "new");
    const refused = await v2m(...yod, "--root", directory, BUSYBOX, "touch", file);
    expect(refused.code).toBe(1);
    const outcome = await v2m(...yod, "--root", `${directory}:rw`, BUSYBOX, "sh", "-c", `echo x > ${file}`);
    expect(outcome).toMatchObject({ code: 0, stderr: "" });
    expect(readFileSync(file, "utf8")).toBe("x\n");
  });

  it("runs ranks, and tells their output apart", async () => {
    const command = "echo rank $V3M_RANK of $PMI_SIZE; echo err >&2";
    const outcome = await v2m(...yod, "--ranks", "3", "--prefix", BUSYBOX, "sh", "-c", command);
    expect(outcome.code).toBe(0);
    const lines = (text: string) => text.trim().split("\n").sort();
    expect(lines(outcome.stdout)).toEqual([0, 1, 2].map((rank) => `[${rank}] rank ${rank} of 3`));
    expect(lines(outcome.stderr)).toEqual([0, 1, 2].map((rank) => `[${rank}] err`));
  });

  it("ends all ranks when one fails, with its exit code", async () => {
    const outcome = await v2m(...yod, "--ranks", "3", program("launched.musl"), "fail", "1");
    expect(outcome.code).toBe(41);
    expect(outcome.stdout).toContain("rank 1 of 3");
  });
});
