// SPDX-License-Identifier: Apache-2.0
/** Which files are taken as applications, and what is said about the others. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findApplication, readApplication } from "../../src/yod/application.js";
import { checkApplication } from "../../src/yod/elf.js";
import { AppError } from "../../src/yod/errors.js";
import { defaultRoots } from "../../src/yod/launch-options.js";
import { Workshop } from "../support/yod-sources.js";

const MAIN = "int main(void) { return 0; }";
let shop: Workshop;
let fixed: string;

beforeAll(() => {
  shop = new Workshop();
  fixed = shop.compile("fixed", MAIN, ["-static", "-no-pie"]);
  shop.compile("pie", MAIN, ["-static-pie"]);
  shop.compile("dynamic", MAIN, []);
  shop.compile("library", "int f(void) { return 0; }", ["-shared", "-fPIC", "-nostdlib"]);
  shop.compile("object", MAIN, ["-c"]);
  shop.compile("musl", MAIN, ["-static"], "musl-gcc");
});
afterAll(() => shop[Symbol.dispose]());

/** A copy with some bytes changed. */
function patched(name: string, changes: Readonly<Record<number, number>>): string {
  const data = readFileSync(fixed);
  for (const [at, value] of Object.entries(changes)) data[Number(at)] = value;
  writeFileSync(shop.path(name), data, { mode: 0o755 });
  return shop.path(name);
}

async function refusal(path: string): Promise<AppError> {
  const error = await readApplication(path).then(
    () => new Error("it was taken"),
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(AppError);
  return error as AppError;
}

describe("an application", () => {
  it.each(["fixed", "musl"])("may be a static executable (%s)", async (name) => {
    const app = await readApplication(shop.path(name));
    expect(app).toMatchObject({ path: shop.path(name), realPath: shop.path(name), elf: { pie: false } });
    expect(app.elf.entry).toBeGreaterThan(0x40_0000n);
  });

  it("may be a static-PIE executable", async () => {
    expect((await readApplication(shop.path("pie"))).elf.pie).toBe(true);
  });

  it("may be Debian's busybox", async () => {
    const app = await readApplication("/bin/busybox");
    expect(app.elf.memoryBytes).toBeGreaterThan(1_000_000n);
  });

  it("may be a symbolic link, whose name it then has", async () => {
    symlinkSync("fixed", shop.path("link"));
    expect(await readApplication("./link", shop.directory)).toMatchObject({
      path: "./link",
      realPath: fixed,
    });
  });

  it("is looked for in PATH where its name has no slash", async () => {
    mkdirSync(shop.path("bin"));
    copyFileSync(fixed, shop.path("bin/tool"));
    const path = `/nonexistent:${shop.path("bin")}`;
    expect(await findApplication("tool", "/", path)).toBe(shop.path("bin/tool"));
    expect(await findApplication("tool", shop.path("bin"), "")).toBe("tool");
    await expect(findApplication("tool", shop.path("bin"), "/usr")).rejects.toMatchObject({
      code: "E_APP_NOT_FOUND",
      hint: "for the file in this directory: ./tool",
    });
  });

  it.each<[string, () => string, AppError["code"], RegExp, RegExp]>([
    ["is absent", () => shop.path("absent"), "E_APP_NOT_FOUND", /no such file/, /path/],
    ["is below a file", () => join(fixed, "x"), "E_APP_NOT_FOUND", /no such file/, /path/],
    ["has no name", () => "", "E_APP_NOT_FOUND", /names no file/, /path/],
    ["is a directory", () => shop.directory, "E_APP_ACCESS", /is a directory/, /path/],
    ["is a device", () => "/dev/null", "E_APP_ACCESS", /no regular file/, /path/],
    ["is dynamic", () => shop.path("dynamic"), "E_APP_DYNAMIC", /dynamically linked/, /link it with -static/],
    ["is a shared library", () => shop.path("library"), "E_APP_DYNAMIC", /shared library/, /-static/],
    ["is an object file", () => patched("o", { 16: 1 }), "E_APP_FORMAT", /an object file/, /-static/],
    ["is a core dump", () => patched("core", { 16: 4 }), "E_APP_FORMAT", /a core dump/, /-static/],
    ["is for ARM", () => patched("arm", { 18: 183 }), "E_APP_FORMAT", /for AArch64/, /x86-64/],
    ["is for 32 bits", () => patched("i386", { 4: 1, 18: 3 }), "E_APP_FORMAT", /32-bit x86/, /x86-64/],
    ["is x32", () => patched("x32", { 4: 1 }), "E_APP_FORMAT", /x32/, /-m64/],
    [
      "is for big-endian machines",
      () => patched("be", { 5: 2, 18: 0, 19: 22 }),
      "E_APP_FORMAT",
      /S\/390/,
      /x86-64/,
    ],
    [
      "has bad program headers",
      () => patched("ph", { 39: 0x7f }),
      "E_APP_FORMAT",
      /program headers/,
      /again/,
    ],
  ])("is refused where it %s", async (_what, make, code, message, hint) => {
    const error = await refusal(make());
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(error.hint).toMatch(hint);
  });

  it("is refused where it is a script, with its interpreter named", async () => {
    writeFileSync(shop.path("script"), "#!/bin/sh -e\necho\n", { mode: 0o755 });
    const error = await refusal(shop.path("script"));
    expect(error).toMatchObject({
      code: "E_APP_SCRIPT",
      message: expect.stringContaining("a script for /bin/sh"),
    });
    expect(error.hint).toContain("v2m yod /bin/sh");
  });

  it("is refused where it is empty or text", async () => {
    writeFileSync(shop.path("empty"), "", { mode: 0o755 });
    writeFileSync(shop.path("text"), "hello", { mode: 0o755 });
    expect((await refusal(shop.path("empty"))).message).toMatch(/is empty/);
    expect((await refusal(shop.path("text"))).message).toMatch(/not an ELF file/);
  });

  it("is refused where it is not executable", async () => {
    copyFileSync(fixed, shop.path("plain"));
    chmodSync(shop.path("plain"), 0o644);
    expect(await refusal(shop.path("plain"))).toMatchObject({
      code: "E_APP_ACCESS",
      hint: expect.stringMatching(/chmod/),
    });
  });

  it("is refused where it is cut off anywhere", async () => {
    for (const length of [4, 40, 64, 100, 5000, 300_000]) {
      copyFileSync(fixed, shop.path("cut"));
      truncateSync(shop.path("cut"), length);
      expect((await refusal(shop.path("cut"))).code, `${length} bytes`).toBe("E_APP_FORMAT");
    }
  });

  it("never brings the check down, whatever is in its headers", () => {
    const data = readFileSync(fixed);
    for (let at = 16; at < 300; at++) {
      for (const value of [0, 0x7f, 0xff]) {
        const copy = Buffer.from(data);
        copy[at] = value;
        try {
          checkApplication(copy, "app");
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }
    }
  });

  it("agrees with file(1)", () => {
    let said: string;
    try {
      said = execFileSync("file", ["-b", shop.path("pie")], { encoding: "utf8" });
    } catch {
      return; // not installed
    }
    expect(said).toMatch(/pie executable/);
  });
});

describe("default roots", () => {
  it("are the current directory and the application's", () => {
    const roots = defaultRoots("/home/me", { path: "bin/app", realPath: "/opt/app/bin/app" });
    expect(roots).toEqual([{ path: "/home/me" }, { path: "/home/me/bin" }, { path: "/opt/app/bin" }]);
  });

  it("name a directory once", () => {
    expect(defaultRoots("/a", { path: "./x", realPath: "/a/x" })).toEqual([{ path: "/a" }]);
  });
});
