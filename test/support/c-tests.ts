// SPDX-License-Identifier: Apache-2.0
/** Unit tests in C, built with AddressSanitizer and UBSan: each is a test of its own here. */
import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";

const run = promisify(execFile);

/** Tests that talk through /dev/vhost-vsock: test/nested/vsock.test.ts runs them. */
export const NEEDS_VSOCK = /^virtio_vsock_(cid_in_use|talks_to_the_host|queue_missing)$/;

/** Standard output and the exit code; the sanitizers' reports come on standard error. */
async function runTest(program: string, name: string, env: NodeJS.ProcessEnv) {
  try {
    const { stdout, stderr } = await run(program, [name], { env });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const failed = error as { code?: number; signal?: string; stdout?: string; stderr?: string };
    return { code: failed.code ?? -1, output: `${failed.stdout}${failed.stderr}${failed.signal ?? ""}` };
  }
}

/**
 * Tests of a program made of native/test/tap.c.
 * @param path from the root of the checkout
 * @param wanted of those that it lists; the others belong elsewhere
 */
export function testsInC(
  path: string,
  env: () => NodeJS.ProcessEnv = () => ({}),
  wanted: (name: string) => boolean = () => true,
): void {
  const program = join(packageRoot(), path);
  const refusal = "refuses the name of a test that does not exist";
  // Not in the Intel machine, which leaves these tests out: they are not to be counted as new ones there.
  if (!existsSync(program)) {
    it(refusal, () => expect.fail(`${path} is missing: make -C native asan`));
    return;
  }
  const names = execFileSync(program, ["--list"], { encoding: "utf8" }).trim().split("\n");
  it.each(names.filter(wanted))(
    "%s",
    async (name) => {
      const { code, output } = await runTest(program, name, { ...process.env, ...env() });
      expect(output).toMatch(new RegExp(`^ok 1 - ${name}$`, "m")); // not skipped either
      expect(code, output).toBe(0);
    },
    60_000,
  );

  it(refusal, async () => {
    expect((await runTest(program, "no_such_test", process.env)).code).toBe(2);
  });
}
