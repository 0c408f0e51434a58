// SPDX-License-Identifier: Apache-2.0
/** What an application on the lightweight kernel sees of the host's files: its roots, and no way out of them. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { type AppOptions, BUSYBOX, runApp } from "../support/yod.js";

suite("files on the lightweight kernel", { needs: ["lwk"] }, () => {
  let base: string;
  let inside: string;
  let options: AppOptions;
  beforeAll(() => {
    base = mkdtempSync(join(tmpdir(), "v3m-yod-files-"));
    inside = join(base, "inside");
    mkdirSync(inside);
    mkdirSync(join(inside, "deep"));
    mkdirSync(join(base, "writable"));
    writeFileSync(join(base, "secret"), "secret");
    writeFileSync(join(inside, "file"), "content\n");
    symlinkSync("../secret", join(inside, "up"));
    symlinkSync(join(base, "secret"), join(inside, "absolute"));
    symlinkSync("..", join(inside, "parent"));
    symlinkSync("/", join(inside, "root"));
    symlinkSync("/proc/self/root", join(inside, "proc"));
    symlinkSync("file", join(inside, "fine"));
    options = {
      cwd: inside,
      roots: [{ path: inside }, { path: join(base, "writable"), writable: true }],
    };
  });
  afterAll(() => rmSync(base, { recursive: true, force: true }));

  it("are read beneath a root, by relative and absolute paths and links within it", async () => {
    for (const path of ["file", "./deep/../file", join(inside, "file"), "fine"]) {
      const run = await runApp(BUSYBOX, ["cat", path], options);
      expect([path, run.outcome.kind, run.stdout]).toEqual([path, "exit", "content\n"]);
    }
  });

  it("are not read by any way out", async () => {
    const ways = [
      ...["../secret", "deep/../../secret", "up", "absolute", "parent/secret", join(base, "secret")],
      ...[
        "/etc/passwd",
        "root/etc/passwd",
        "proc/etc/passwd",
        "/proc/self/root/etc/passwd",
        "/proc/1/environ",
      ],
      ...[`/proc/self/cwd/../secret`, "/proc/self/fd/../root/etc/passwd", `${inside}/../secret`, "/dev/mem"],
      ...[`/proc/${process.pid}/environ`, `/proc/${process.pid}/root/etc/passwd`, "//etc//passwd"],
    ];
    const run = await runApp(BUSYBOX, ["cat", ...ways], options);
    expect(run.outcome).toMatchObject({ kind: "exit", status: 1 });
    expect(run.stdout).toBe("");
    expect(run.stderr.trim().split("\n")).toHaveLength(ways.length);
  });

  it("are written only where that was allowed", async () => {
    const target = join(base, "writable", "new");
    const allowed = await runApp(BUSYBOX, ["cp", "file", target], options);
    expect(allowed.outcome).toMatchObject({ kind: "exit", status: 0 });
    expect(readFileSync(target, "utf8")).toBe("content\n");
    for (const command of [
      ["cp", "file", "copy"],
      ["rm", "file"],
      ["mkdir", "made"],
      ["mv", "file", "moved"],
      ["chmod", "777", "file"],
      ["ln", "-s", "x", "link"],
      ["truncate", "-s", "0", "file"],
    ]) {
      const { outcome } = await runApp(BUSYBOX, command, options);
      expect([command, outcome.kind, outcome.kind === "exit" && outcome.status !== 0]).toEqual([
        ...[command, "exit", true],
      ]);
    }
    expect(readFileSync(join(inside, "file"), "utf8")).toBe("content\n");
    for (const name of ["copy", "made", "moved", "link"]) expect(existsSync(join(inside, name))).toBe(false);
  });

  it("are listed as they are", async () => {
    const run = await runApp(BUSYBOX, ["ls", "-a", "."], options);
    expect(run.stdout.split("\n").filter(Boolean).sort()).toEqual(
      [".", "..", "absolute", "deep", "file", "fine", "parent", "proc", "root", "up"].sort(),
    );
  });

  it("are there without further ado in the current directory and beside the application", async () => {
    const run = await runApp(BUSYBOX, ["cat", "file"], { cwd: inside });
    expect(run.stdout).toBe("content\n");
    const beside = await runApp(BUSYBOX, ["ls", "/bin/busybox"], { cwd: inside });
    expect(beside.stdout).toBe("/bin/busybox\n");
    expect((await runApp(BUSYBOX, ["cat", "../secret"], { cwd: inside })).stdout).toBe("");
  });
});
