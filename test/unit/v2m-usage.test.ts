// SPDX-License-Identifier: Apache-2.0
/** Command lines that v2m refuses before it touches anything: one message, one hint, the documented exit code. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
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
    ["an initrd without a kernel", ["run", "--disk", "d", "--initrd", "i"], /--initrd belongs to a --kernel/],
    ["a disk without a file", ["run", ...guest, "--disk", ",ro"], /--disk ,ro/],
    ["a disk of an unknown kind", ["run", ...guest, "--disk", "d,rw"], /--disk d,rw: unknown "rw"/],
    ["a disk's option with a value", ["run", ...guest, "--disk", "d,direct=1"], /direct takes no value/],
    ["a disk's option without its value", ["run", ...guest, "--disk", "d,overlay"], /overlay needs a value/],
    ["a read-only disk with an overlay", ["run", ...guest, "--disk", "d,ro,overlay=o"], /overlay/],
    ["a serial number that is too long", ["run", ...guest, "--disk", `d,serial=${"x".repeat(21)}`], /serial/],
    ["an unknown kind of network", ["run", ...guest, "--net", "bridge"], /--net bridge: unknown/],
    ["a bad MAC", ["run", ...guest, "--net", "user,mac=1:2"], /1:2 is not the address/],
    ["a MAC of many", ["run", ...guest, "--net", "user,mac=53:54:00:00:00:01"], /not the address/],
    ["vhost without a tap", ["run", ...guest, "--net", "user,vhost"], /unknown "vhost"/],
    ["a port that is none", ["run", ...guest, "--net", "user,tcp=70000"], /tcp 70000/],
    ["ports in words", ["run", ...guest, "--net", "user,udp=dns"], /udp=dns: no port/],
    ["a tap with a long name", ["run", ...guest, "--net", "tap=sixteen-bytes-xx"], /not the name/],
    ["a link that is no descriptor", ["run", ...guest, "--net", "link=name"], /link name/],
    ["a vsock of the host", ["run", ...guest, "--vsock", "2"], /--vsock 2/],
    ["pmem of an unknown kind", ["run", ...guest, "--pmem", "p,rw"], /--pmem p,rw/],
    ["a channel without a name", ["run", ...guest, "--shm", "peer=0"], /peer=0: no channel=NAME/],
    ["a channel without an id", ["run", ...guest, "--shm", "channel=c"], /channel=c: no peer=ID/],
    [
      "a channel of a bad name",
      ["run", ...guest, "--shm", "channel=../c,peer=0"],
      /not the name of a channel/,
    ],
    ["a peer that there is not", ["run", ...guest, "--shm", "channel=c,peer=2"], /2 is not one of 2 peers/],
    ["a channel of one", ["run", ...guest, "--shm", "channel=c,peer=0,peers=1"], /--shm peers 1/],
    [
      "a channel too large",
      ["run", ...guest, "--shm", "channel=c,peer=0,size=2G"],
      /--shm size 2G: not from 4K/,
    ],
    [
      "a channel with hardly anything in common",
      ["run", ...guest, "--shm", "channel=c,peer=0,common=1K"],
      /--shm common 1K: not from 4K/,
    ],
    ["a channel seen by a name", ["run", ...guest, "--shm", "channel=c,peer=0,visible-to=b"], /visible-to b/],
    [
      "a channel seen by none of its own",
      ["run", ...guest, "--shm", "channel=c,peer=0,visible-to=1+7"],
      /7 is not/,
    ],
    ["a channel's unknown key", ["run", ...guest, "--shm", "channel=c,peer=0,ro"], /unknown "ro"/],
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

describe("v2m run from a disk", () => {
  it("says that there is no such disk, with exit code 5", async () => {
    const outcome = await v2m("run", "--disk", join(nowhere, "disk.img"));
    expect(messageOf(outcome)).toMatchObject({ code: "E_IO", message: expect.stringContaining("disk.img") });
    expect(outcome.code).toBe(5);
  });

  it("says that there is no system on it, with exit code 5", async () => {
    const disk = join(nowhere, "empty,img");
    writeFileSync(disk, Buffer.alloc(1 << 20));
    const outcome = await v2m("run", "--disk", disk.replaceAll(",", ",,"));
    expect(messageOf(outcome)).toMatchObject({ code: "E_BAD_IMAGE", hint: "give --kernel and --initrd" });
    expect(outcome.code).toBe(5);
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
    [["run", "--help"], "v2m run --disk debian.img,overlay=temporary --net user,tcp=2222:22"],
    [["run", "--help"], "v2m run --kernel vmlinuz --initrd initrd.img --shm channel=ring,peer=0"],
    [["doctor", "--help"], "Exit codes:"],
    [["--version"], /^\d+\.\d+\.\d+\n$/],
    [["completion", "bash"], "v2m"],
  ])("%j", async (args, text) => {
    const outcome = await v2m(...args);
    expect(outcome).toMatchObject({ code: 0, stderr: "" });
    expect(outcome.stdout).toMatch(text);
  });
});
