// SPDX-License-Identifier: Apache-2.0
/** Guests that v2m run cannot make or load: one message, one hint, the documented exit code. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { payloadPath } from "../support/payloads.js";
import { messageOf, Observed, payloadArgs, V2M, v2m } from "../support/v2m.js";

const guest = payloadArgs("hello");
let directory: string;
const file = (name: string) => join(directory, name);

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "v3m-errors-"));
  writeFileSync(file("text"), "This is not a kernel.\n".repeat(100));
  writeFileSync(file("empty"), "");
  const elf = await readFile(payloadPath("boot-pvh"));
  writeFileSync(file("truncated.elf"), elf.subarray(0, Math.floor(elf.length / 2)));
  const bzImage = await readFile(payloadPath("boot-linux"));
  writeFileSync(file("truncated.bin"), bzImage.subarray(0, 700));
  writeFileSync(file("huge"), "");
  truncateSync(file("huge"), 64 << 20); // sparse
  writeFileSync(file("forbidden"), "", { mode: 0 });
});
afterAll(() => rmSync(directory, { recursive: true }));

suite("v2m run refuses", { needs: ["kvm"] }, () => {
  it.each<[string, () => readonly string[], string, number, RegExp]>([
    ["a file that is no kernel", () => ["--kernel", file("text")], "E_BAD_IMAGE", 5, /not a kernel/],
    ["an empty kernel", () => ["--kernel", file("empty")], "E_TRUNCATED", 5, /empty/],
    [
      "a truncated ELF kernel",
      () => ["--kernel", file("truncated.elf")],
      "E_TRUNCATED",
      5,
      /end of the file/,
    ],
    ["a truncated bzImage", () => ["--kernel", file("truncated.bin")], "E_TRUNCATED", 5, /truncated/],
    ["a kernel that is not there", () => ["--kernel", file("none")], "E_IO", 5, /none/],
    ["a directory as kernel", () => ["--kernel", directory], "E_IO", 5, /regular file/],
    [
      "a kernel of another kind than said",
      () => ["--kernel", payloadPath("boot-pvh"), "--kind", "bzimage"],
      "E_BAD_IMAGE",
      5,
      /bzImage/,
    ],
    [
      "an initrd that does not fit",
      () => ["--kernel", payloadPath("boot-pvh"), "--memory", "16M", "--initrd", file("huge")],
      "E_NO_ROOM",
      5,
      /initrd/,
    ],
    [
      "an initrd that is not there",
      () => ["--kernel", payloadPath("boot-pvh"), "--initrd", file("none")],
      "E_IO",
      5,
      /none/,
    ],
    ["a kernel outside RAM", () => [...guest, "--load-address", "0x80000000"], "E_NO_ROOM", 5, /RAM|memory/],
    ["more vCPUs than KVM has", () => [...guest, "--cpus", "100000"], "E_LIMIT", 6, /100000/],
    ["less than a page of memory", () => [...guest, "--memory", "0"], "E_INVALID", 2, /memory/],
    ["too little memory for a machine", () => [...guest, "--memory", "64K"], "E_INVALID", 2, /too small/],
    ["more memory than the host has", () => [...guest, "--memory", "1000T"], "E_NO_MEMORY", 6, /memory/],
    [
      "cores that don't divide the vCPUs",
      () => [...guest, "--cpus", "3", "--cores", "2"],
      "E_INVALID",
      2,
      /3/,
    ],
    ["a host CPU that is not there", () => [...guest, "--pin", "4000"], "E_INVALID", 2, /4000/],
    ["a NUMA node that is not there", () => [...guest, "--numa-node", "900"], "E_INVALID", 2, /900/],
  ])("%s", async (_what, args, code, exit, text) => {
    const outcome = await v2m("run", ...args());
    const said = messageOf(outcome);
    expect(said.code).toBe(code);
    expect(said.message).toMatch(text);
    expect(outcome.code).toBe(exit);
    expect(outcome.stdout).toBe("");
  });

  it("a KVM device that it may not open", async () => {
    // Root may open everything, unless that right is taken away.
    const lessRoot =
      process.geteuid?.() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : [];
    const { outcome, child } = new Observed([
      ...lessRoot,
      ...V2M,
      "run",
      ...guest,
      "--kvm",
      file("forbidden"),
    ]);
    child.stdin?.end();
    expect(messageOf(await outcome)).toMatchObject({
      code: "E_PERMISSION",
      hint: expect.stringContaining("group kvm"),
    });
    expect((await outcome).code).toBe(4);
  });

  it("huge pages that nobody has reserved", async () => {
    const free = Number(await readFile("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "utf8"));
    const outcome = await v2m("run", ...guest, "--hugepages", "2M", "--memory", `${2 * (free + 1)}M`);
    expect(messageOf(outcome).code).toBe("E_NO_MEMORY");
    expect(outcome.code).toBe(6);
  });
});
