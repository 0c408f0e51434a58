// SPDX-License-Identifier: Apache-2.0
/** The monitor itself, in a debug build, tries to get out of its jail while its guest runs. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { busy, PATIENCE } from "../support/machines.js";
import { MonitorPlace } from "../support/monitors.js";
import { exchange } from "../support/seqpacket.js";

const TEST = 128;
const INVALID = -1;
const UNSUPPORTED = -5;
const OUTCOMES = ["stopped", "trapped", "out"];

let place: MonitorPlace;
beforeAll(() => {
  place = new MonitorPlace();
});
afterAll(() => place.remove());

/** The machine's directory. */
function started(monitor: string): string {
  const directory = place.directory();
  const { kernel, loadAddress } = busy(0);
  const file = join(place.root, "busy.bin");
  writeFileSync(file, kernel as Uint8Array);
  const program = (name: string) => join(packageRoot(), "native/build/release", name);
  const guest = ["-k", "flat64", "-l", String(loadAddress), "-m", "16", file];
  const run = spawnSync(program("vmm-run"), ["-d", directory, "-M", program(monitor), ...guest], {
    encoding: "utf8",
    stdio: ["ignore", "ignore", "pipe"],
  });
  expect(run.stderr).toBe("");
  return directory;
}

function attempt(directory: string, number: number): { status: number; text: string; payload: Buffer } {
  const request = Buffer.alloc(36);
  request.writeUInt32LE(0x43334d56, 0);
  request.writeUInt16LE(1, 4);
  request.writeUInt32LE(TEST, 8);
  request.writeUInt32LE(number, 32);
  const answer = exchange(join(directory, "control"), request);
  return {
    status: answer.readInt32LE(16),
    text: answer.toString("latin1", 36),
    payload: answer.subarray(32),
  };
}

suite("a monitor that tries to get out", { needs: ["kvm", "jail"] }, () => {
  it(
    "is stopped each time, by a part of its jail that is named, and goes on",
    async () => {
      const directory = started("vmm-hpc-debug");
      let trapped = 0;
      let number = 0;
      for (; ; number++) {
        const { status, text, payload } = attempt(directory, number);
        if (status === INVALID) {
          expect(text).toContain("attempts");
          break;
        }
        if (status === UNSUPPORTED) continue; // the kernel ends it at once: jail-test does these
        expect(status).toBe(0);
        const outcome = OUTCOMES[payload.readUInt32LE(0)];
        const length = payload.readUInt32LE(4);
        const name = payload.toString("latin1", 8, 8 + length);
        const by = payload.toString("latin1", 8 + length + 5, payload.length - 1);
        expect(["stopped", "trapped"], name).toContain(outcome);
        expect(by, name).not.toBe("");
        trapped += outcome === "trapped" ? 1 : 0;
      }
      expect(number).toBeGreaterThan(30);
      expect(trapped).toBeGreaterThan(number / 2);
      await using machine = await Machine.connect(directory);
      expect(machine.state).toBe("running");
      await machine.stop();
    },
    PATIENCE,
  );

  it(
    "the one that is for use does not know the request",
    async () => {
      const directory = started("vmm-hpc");
      expect(attempt(directory, 0)).toMatchObject({
        status: UNSUPPORTED,
        text: expect.stringContaining("does not know request 128"),
      });
      await using machine = await Machine.connect(directory);
      await machine.stop();
    },
    PATIENCE,
  );
});
