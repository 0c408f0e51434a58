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
    // Past the pipe of the guest's shell: Linux 6.1's splice() holds a pipe's lock while it waits for a terminal, so
    // busybox's cat would keep its own output from being read.
    guest.type("stty echo; sh -i >/dev/ttyS0 2>&1; stty -echo; echo ba''ck\n");
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
    // More than fits between the UART and a reader that does not read.
    const console = guest.machine.console;
    const lines = Math.floor((console.readableHighWaterMark + rounds(40_000, 1_000_000)) / 10);
    const expected = Array.from({ length: lines }, (_, i) => `line ${String(i).padStart(4, "0")}\n`).join("");
    await guest.sh(
      `i=0; while [ $i -lt ${lines} ]; do printf 'line %04d\\n' $i; i=$((i + 1)); done >/tmp/text`,
    );
    const before = guest.machine.stats().console.out;
    console.pause();
    guest.type("cat /tmp/text; echo end of the text\n");
    // The guest comes to a halt with part of its text unwritten.
    let written = before;
    for (let now = -1; now !== written || now === before; ) {
      written = now;
      await sleep(1500);
      now = guest.machine.stats().console.out;
    }
    expect(written - before).toBeLessThan(expected.length);
    const from = guest.text.length;
    console.resume();
    await guest.waitFor(/end of the text\r\n/);
    const received = guest.text.slice(from).replace(/\r/g, "");
    expect(md5(received)).toBe(md5(`${expected}end of the text\n`));
    expect(guest.machine.stats().console.dropped).toBe(0);
  });

  it("takes input while it writes", async () => {
    guest.type("seq 300; read A; seq 300; echo read $A\n");
    await guest.waitFor(/\n200\r\n/);
    guest.type("answer\n");
    await guest.waitFor(/read answer\r\n/);
  });
});
