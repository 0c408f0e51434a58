// SPDX-License-Identifier: Apache-2.0
/** A full disk, and processes that are killed while they write: snapshots are there whole, or not at all. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { packageRoot } from "../../src/package-root.js";
import { Machine, verifySnapshot } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { guest, PATIENCE, Transcript, withRunning } from "../support/machines.js";
import { rounds } from "../support/places.js";
import { SmallDisk } from "../support/vms.js";

suite("a snapshot on a full disk", { needs: ["root", "kvm"] }, () => {
  it("is refused; the machine goes on, and the older one is whole", async () => {
    using disk = new SmallDisk("1m");
    const options = guest("echo");
    await withRunning(options, "echo: ready\n", async (machine, transcript) => {
      const older = join(disk.directory, "older");
      await machine.snapshot(older);
      disk.fill();
      const before = readdirSync(disk.directory);
      for (const compress of [false, true]) {
        await expect(machine.snapshot(join(disk.directory, "newer"), { compress })).rejects.toMatchObject({
          code: "E_IO",
          errno: "ENOSPC",
        });
        expect(readdirSync(disk.directory)).toEqual(before);
      }
      expect(machine.state).toBe("running");
      machine.console.write("here\n");
      await transcript.until("here\n");
      await verifySnapshot(older);
      disk.empty(); // a tmpfs has to give memory for holes that are touched
      await using copy = await Machine.restore(older, options);
      const said = new Transcript(copy);
      copy.start();
      copy.console.write("restored\n");
      await said.until("restored\n");
    });
  });
});

suite("a process that saves a machine", { needs: ["kvm"] }, () => {
  it(
    "is killed at any moment, and leaves whole snapshots",
    async () => {
      const directory = mkdtempSync(join(tmpdir(), "v3m-snapshot-killed-"));
      const program = join(packageRoot(), "dist/test/support/snapshot-loop.js");
      const whole = () => readdirSync(directory).filter((name) => /^s\d+-\d+$/.test(name));
      try {
        for (let i = 0; i < rounds(5, 50); i++) {
          const child = spawn(process.execPath, [program, directory], {
            stdio: ["ignore", "pipe", "inherit"],
          });
          const ended = new Promise((resolve) => child.once("close", resolve));
          await new Promise((resolve) => child.stdout.once("data", resolve));
          await sleep(Math.random() * 100);
          child.kill("SIGKILL");
          await ended;
          for (const name of whole()) await verifySnapshot(join(directory, name));
          expect(whole().length).toBeGreaterThan(i);
          for (const name of readdirSync(directory).filter((entry) => !whole().includes(entry))) {
            // What is left lies beside, under another name, and is in nobody's way.
            expect(name).toMatch(/^s\d+-\d+\.[A-Za-z0-9]{6}$/);
            rmSync(join(directory, name), { recursive: true });
          }
        }
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    },
    PATIENCE,
  );
});
