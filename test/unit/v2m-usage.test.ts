// SPDX-License-Identifier: Apache-2.0
/** Command lines that v2m refuses before it touches anything: one message, one hint, the documented exit code. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { messageOf, payloadArgs, v2m } from "../support/v2m.js";

const guest = payloadArgs("hello");
let nowhere: string;

beforeAll(() => {
  nowhere = mkdtempSync(join(tmpdir(), "v3m-usage-"));
});
afterAll(() => rmSync(nowhere, { recursive: true }));

describe("v2m refuses with exit code 2", () => {
  it.each<[string, readonly string[], RegExp]>([
    ["an unknown option", ["run", ...guest, "--frobnicate"], /unknown option '--frobnicate'/],
    ["an unknown command", ["frobnicate"], /unknown command 'frobnicate'/],
    ["run without a kernel", ["run"], /--kernel/],
    ["an argument too many", ["run", ...guest, "more"], /too many arguments/],
    ["0 vCPUs", ["run", ...guest, "--cpus", "0"], /--cpus 0/],
    ["-1 vCPUs", ["run", ...guest, "--cpus", "-1"], /--cpus -1/],
    ["2.5 vCPUs", ["run", ...guest, "--cpus", "2.5"], /--cpus 2\.5/],
    ["vCPUs in words", ["run", ...guest, "--cpus", "many"], /--cpus many/],
    ["memory in words", ["run", ...guest, "--memory", "lots"], /--memory lots/],
    ["negative memory", ["run", ...guest, "--memory", "-5M"], /--memory -5M/],
    ["memory that no machine has", ["run", ...guest, "--memory", "9999999T"], /--memory 9999999T/],
    ["an unknown kind of page", ["run", ...guest, "--hugepages", "3M"], /3M/],
    ["an unknown kind of image", ["run", ...guest, "--kind", "aout"], /aout/],
    ["a bad list of CPUs", ["run", ...guest, "--pin", "0-"], /--pin 0-/],
    ["a list of CPUs that runs backwards", ["run", ...guest, "--pin", "3-1"], /--pin 3-1/],
    ["a bad NUMA node", ["run", ...guest, "--numa-node", "x"], /--numa-node x/],
    ["a bad load address", ["run", ...guest, "--load-address", "here"], /--load-address here/],
    ["a time limit of 0", ["run", ...guest, "--timeout", "0"], /--timeout 0/],
    ["a time limit in words", ["run", ...guest, "--timeout", "soon"], /--timeout soon/],
    ["an unknown shell", ["completion", "cmd.exe"], /cmd\.exe/],
  ])("%s", async (_what, args, message) => {
    const outcome = await v2m(...args);
    expect(messageOf(outcome).message).toMatch(message);
    expect(outcome.code).toBe(2);
    expect(outcome.stdout).toBe("");
  });

  it("nothing at all, with the help text", async () => {
    const outcome = await v2m();
    expect(outcome.code).toBe(2);
    expect(outcome.stdout + outcome.stderr).toContain("Usage: v2m");
  });
});

describe("v2m without KVM", () => {
  it("says that there is none, with exit code 4", async () => {
    const outcome = await v2m("run", ...guest, "--kvm", join(nowhere, "kvm"));
    expect(messageOf(outcome)).toMatchObject({ code: "E_NO_KVM", message: expect.stringContaining(nowhere) });
    expect(outcome.code).toBe(4);
  });

  it("says so too where the file is no KVM", async () => {
    const outcome = await v2m("run", ...guest, "--kvm", "/dev/null");
    expect(messageOf(outcome)).toMatchObject({
      code: "E_NO_KVM",
      message: expect.stringContaining("/dev/null"),
    });
    expect(outcome.code).toBe(4);
  });

  it("says it in one line of JSON where asked to", async () => {
    const outcome = await v2m("run", ...guest, "--json", "--kvm", join(nowhere, "kvm"));
    expect(outcome.code).toBe(4);
    expect(outcome.stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(JSON.parse(outcome.stderr)).toMatchObject({
      error: { code: "E_NO_KVM", message: expect.any(String), hint: expect.any(String) },
    });
  });

  it("doctor works, and recommends something", async () => {
    const outcome = await v2m("doctor", "--kvm", join(nowhere, "kvm"));
    expect(outcome.code).toBe(4);
    expect(outcome.stdout).toMatch(/v2m-testbed|modprobe/);
  });
});

describe("v2m helps", () => {
  it.each([
    [["--help"], "Usage: v2m"],
    [["run", "--help"], "Exit codes:"],
    [["doctor", "--help"], "Exit codes:"],
    [["--version"], /^\d+\.\d+\.\d+\n$/],
    [["completion", "bash"], "v2m"],
  ])("%j", async (args, text) => {
    const outcome = await v2m(...args);
    expect(outcome).toMatchObject({ code: 0, stderr: "" });
    expect(outcome.stdout).toMatch(text);
  });
});
