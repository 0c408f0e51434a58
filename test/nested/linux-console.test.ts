// SPDX-License-Identifier: Apache-2.0
/** The console of a Linux guest: a terminal on a 16550. One machine for all. */
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { rounds } from "../support/places.js";

const md5 = (data: string | Uint8Array) => createHash("md5").update(data).digest("hex");

suite("the console of a Linux guest", { needs: ["linux-guest"] }, () => {
  let guest: LinuxGuest;
  beforeAll(async () => {
    guest = await LinuxGuest.boot({ cpus: 1 });
  });
  afterAll(() => guest?.dispose());

  it("echoes what is typed, edits the line, and has a Ctrl-C", async () => {
    guest.type("stty echo; sh -i; stty -echo; echo ba''ck\n");
    await guest.waitFor(/\/ # /);
    guest.type("echo 'ready''!'; cat\n");
    await guest.waitFor(/ready!\r\n/);
    guest.type("onf\x7fe\n");
    await guest.waitFor("onf\b \be\r\none\r\n");
    guest.type("\x03");
    await guest.waitFor(/\^C[\s\S]*\/ # /);
    guest.type("exit\n");
    await guest.waitFor(/back\r\n/);
    expect(await guest.sh("echo still here")).toBe("still here");
  });

  it("carries every byte value, and kilobytes at once, into the guest", async () => {
    const bytes = Buffer.concat([
      Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
      randomBytes(rounds(4096, 60_000)),
    ]);
    guest.type(`S=$(stty -g); stty raw -echo; echo listening; head -c ${bytes.length} | md5sum; stty $S\n`);
    await guest.waitFor(/listening\r?\n/);
    guest.type(bytes);
    expect((await guest.waitFor(/([0-9a-f]{32}) .*\n/))[1]).toBe(md5(bytes));
    expect(await guest.sh("echo on")).toBe("on");
  });

  it("holds the guest back while nobody reads, and loses nothing", async () => {
    const lines = rounds(10_000, 150_000);
    const expected = Array.from({ length: lines }, (_, i) => `${i + 1}\n`).join("");
    guest.machine.console.pause();
    const before = guest.machine.stats().console;
    guest.type(`seq ${lines}; echo end of the list\n`);
    // The guest comes to a halt with part of its text unwritten.
    let written = -1;
    for (let now = 0; now !== written || now === before.out; ) {
      written = now;
      await sleep(1500);
      now = guest.machine.stats().console.out;
    }
    expect(written - before.out).toBeLessThan(expected.length);
    const from = guest.text.length;
    guest.machine.console.resume();
    await guest.waitFor(/end of the list\r\n/);
    const received = guest.text.slice(from).replace(/\r/g, "");
    expect(md5(received)).toBe(md5(`${expected}end of the list\n`));
    expect(guest.machine.stats().console.dropped).toBe(0);
  });

  it("takes input while it writes", async () => {
    guest.type("seq 2000; read A; seq 2000; echo read $A\n");
    await guest.waitFor(/\n1500\r\n/);
    guest.type("answer\n");
    await guest.waitFor(/read answer\r\n/);
  });
});
