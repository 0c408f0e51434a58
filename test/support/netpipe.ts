// SPDX-License-Identifier: Apache-2.0
/** NetPIPE: an MPI program of Debian's, unchanged; `make -C bypass tests` builds it. */
import { expect } from "vitest";

/** Its arguments: messages up to so many bytes, each checked twice on both sides. */
export function netpipeArgs(bytes: number): string[] {
  return ["-i", "-n", "2", "-u", String(bytes), "-o", "/dev/null"];
}

/** What it printed says that it found all bytes of all messages. */
export function expectIntegrity(output: string): void {
  const checked = output.split("\n").filter((line) => /^(\[0\] )? *\d+: +\d+ bytes/.test(line));
  expect(checked.length).toBeGreaterThan(25);
  for (const line of checked) expect(line).toContain("Integrity check passed");
}
