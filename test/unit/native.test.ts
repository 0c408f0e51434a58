// SPDX-License-Identifier: Apache-2.0
/** The unit tests in C (native/test), built with AddressSanitizer and UBSan: each is a test of its own here. */
import { execFile, execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { ensureKernel } from "../../harness/kernels.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../native/build/asan/unit-tests", import.meta.url));

/** Built by `make test`; alone: make -C native asan. */
const names = execFileSync(program, ["--list"], { encoding: "utf8" }).trim().split("\n");

/** Standard output and the exit code; the sanitizers' reports come on standard error. */
async function runTest(name: string, kernel: string): Promise<{ code: number; output: string }> {
  const env = { ...process.env, V3M_TEST_KERNEL: kernel };
  try {
    const { stdout, stderr } = await run(program, [name], { env });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const failed = error as { code?: number; signal?: string; stdout?: string; stderr?: string };
    return { code: failed.code ?? -1, output: `${failed.stdout}${failed.stderr}${failed.signal ?? ""}` };
  }
}

describe("libvmmhpc in C", () => {
  let kernel: string;
  beforeAll(async () => {
    kernel = (await ensureKernel("cloud")).bzImage;
  }, 300_000);

  it.each(names)(
    "%s",
    async (name) => {
      const { code, output } = await runTest(name, kernel);
      expect(output).toMatch(new RegExp(`^ok 1 - ${name}$`, "m")); // not skipped either
      expect(code, output).toBe(0);
    },
    60_000,
  );

  it("refuses the name of a test that does not exist", async () => {
    expect((await runTest("no_such_test", "")).code).toBe(2);
  });
});
