// SPDX-License-Identifier: Apache-2.0
/** The console: as a stream, connected to descriptors, and with readers and writers that are slow or gone. */
import { execFileSync, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { finish, guest, PATIENCE, roundsOf, Transcript, withRunning } from "../support/machines.js";

const HELLO = "Hello from V3M in 64-bit mode\n";
/** More than all buffers on the way together: the UART's, the socket's, the stream's. */
const LINES = roundsOf(1000, 4000, 20_000);

/** Resolves when a counter of the machine has stood still for some looks at it. */
async function standsStill(value: () => number): Promise<number> {
  for (let same = 0, last = -1; ; ) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = value();
    same = now === last ? same + 1 : 0;
    last = now;
    if (same === 10) return now;
  }
}

suite("console", { needs: ["kvm"] }, () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-console-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  /** A file of this test, opened; closed after `use`. */
  async function withFile(name: string, flags: string, use: (fd: number) => Promise<void>): Promise<void> {
    const fd = openSync(join(directory, name), flags);
    try {
      await use(fd);
    } finally {
      closeSync(fd);
    }
  }

  it(
    "a reader that waits holds the guest back, and loses nothing",
    async () => {
      await using machine = await Machine.create(guest("hello", { count: LINES }));
      const { console: stream } = machine;
      machine.start();
      const out = await standsStill(() => machine.stats().console.out);
      expect(machine.state).toBe("running"); // it waits, for ever if need be
      expect(out).toBeLessThan(LINES * HELLO.length);
      let text = "";
      stream.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
      });
      const ended = new Promise((resolve) => stream.once("end", resolve));
      expect((await machine.wait(PATIENCE)).cause).toBe("poweroff");
      await ended;
      expect(text.length).toBe(LINES * HELLO.length + "hello: ok\n".length);
      expect(text).toBe(`${HELLO.repeat(LINES)}hello: ok\n`);
      expect(machine.stats().console).toEqual({ out: text.length, dropped: 0, in: 0 });
    },
    PATIENCE,
  );

  it(
    "without a reader output is dropped, counted, and keeps nobody waiting",
    async () => {
      await using machine = await Machine.create(guest("hello", { count: 200 }));
      machine.start();
      expect((await machine.wait(PATIENCE)).cause).toBe("poweroff");
      const bytes = 200 * HELLO.length + "hello: ok\n".length;
      expect(machine.stats().console).toEqual({ out: bytes, dropped: bytes, in: 0 });
    },
    PATIENCE,
  );

  it(
    "a console that is opened after the end is empty, and ends",
    async () => {
      await using machine = await Machine.create(guest("hello"));
      machine.start();
      await machine.wait(PATIENCE);
      expect(await new Transcript(machine).ended).toBe("");
    },
    PATIENCE,
  );

  it(
    "a reader that goes away leaves the guest running",
    async () => {
      await withRunning(guest("hello", { count: 2000 }), HELLO, async (machine) => {
        machine.console.destroy();
        expect((await machine.wait(PATIENCE)).cause).toBe("poweroff");
        const { out, dropped } = machine.stats().console;
        expect(out).toBe(2000 * HELLO.length + "hello: ok\n".length);
        expect(dropped).toBeLessThan(out);
      });
    },
    PATIENCE,
  );

  it.each([
    ["a receiver of 16 bytes", {}],
    ["a receiver of one byte", { fifo: 0 }],
    ["interrupts", { mode: 1 }],
    ["a slow guest", { mode: 1, delay: 200 }],
  ] as const)(
    "more input than the guest takes at once waits for it: %s",
    async (_name, parameters) => {
      const text = Array.from({ length: roundsOf(20, 60, 200) }, (_, i) => `line ${i}\n`).join("");
      await withRunning(guest("echo", parameters), "echo: ready\n", async (machine, transcript) => {
        machine.console.end(`${text}\x04`);
        await machine.wait(PATIENCE);
        expect(await transcript.ended).toBe(`echo: ready\n${text}\necho: bytes ${text.length}\necho: ok\n`);
      });
    },
    PATIENCE,
  );

  it(
    "input before the guest listens is not lost",
    async () => {
      await using machine = await Machine.create(guest("echo", { mode: 1 }));
      machine.console.write("early\x04");
      const { output } = await finish(machine);
      expect(output).toBe("echo: ready\nearly\necho: bytes 5\necho: ok\n");
    },
    PATIENCE,
  );

  it(
    "to files: input is read to its end, output appended; the descriptors stay the caller's",
    async () => {
      writeFileSync(join(directory, "in"), "from a file\x04");
      await using machine = await Machine.create(guest("echo"));
      await withFile("in", "r", async (input) => {
        await withFile("out", "w", async (output) => {
          machine.attachConsole(input, output);
        });
      });
      machine.start(); // both are closed here; the machine has its own
      await machine.wait(PATIENCE);
      await machine.dispose();
      expect(readFileSync(join(directory, "out"), "latin1")).toBe(
        "echo: ready\nfrom a file\necho: bytes 11\necho: ok\n",
      );
    },
    PATIENCE,
  );

  it(
    "to a pipe that is slow, then to one whose reader has gone",
    async () => {
      execFileSync("mkfifo", [join(directory, "slow"), join(directory, "gone")]);
      const count = roundsOf(200, 2500, 2500);
      const bytes = count * HELLO.length + "hello: ok\n".length;
      for (const [name, command] of [
        ["slow", "head -c 100; sleep 0.2; cat"],
        ["gone", "head -c 100"],
      ] as const) {
        await using machine = await Machine.create(guest("hello", { count }));
        const reader = spawn("sh", ["-c", `(${command}) <${name}`], {
          cwd: directory,
          stdio: ["ignore", "pipe", "inherit"],
        });
        let text = "";
        reader.stdout.on("data", (chunk: Buffer) => {
          text += chunk.toString("latin1");
        });
        const closed = new Promise((resolve) => reader.once("close", resolve));
        await withFile(name, "w", async (fd) => machine.attachConsole(-1, fd));
        machine.start();
        expect((await machine.wait(PATIENCE)).cause).toBe("poweroff");
        const { out, dropped } = machine.stats().console;
        await machine.dispose();
        await closed;
        expect(out).toBe(bytes);
        expect(text.length, name).toBe(name === "slow" ? bytes : 100);
        expect(name === "slow" ? dropped === 0 : dropped <= bytes).toBe(true);
      }
    },
    PATIENCE,
  );

  it(
    "is moved to another descriptor while the guest prints; nothing is lost between them",
    async () => {
      const read = (name: string) => readFileSync(join(directory, name), "latin1");
      await using machine = await Machine.create(guest("hello", { count: 1000 }));
      await withFile("a", "w", async (first) => {
        await withFile("b", "w", async (second) => {
          machine.attachConsole(-1, first);
          machine.start();
          while (read("a").length < 100) {
            await new Promise(setImmediate);
          }
          machine.attachConsole(-1, second);
          await machine.wait(PATIENCE);
          await machine.dispose();
        });
      });
      expect(read("a") + read("b")).toBe(`${HELLO.repeat(1000)}hello: ok\n`);
    },
    PATIENCE,
  );

  it(
    "a descriptor that is not open is refused",
    async () => {
      await using machine = await Machine.create(guest("hello"));
      expect(() => machine.attachConsole(-1, 100_000)).toThrow(
        expect.objectContaining({ code: "E_INVALID", errno: "EBADF", value: 100_000n }),
      );
      expect(() => machine.attachConsole(100_001, 2)).toThrow(expect.objectContaining({ value: 100_001n }));
      expect((await finish(machine)).output).toBe(`${HELLO}hello: ok\n`);
    },
    PATIENCE,
  );

  it(
    "survives a reset: output goes on, and input that was not read stays",
    async () => {
      await withRunning(guest("echo"), "echo: ready\n", async (machine, transcript) => {
        machine.console.write("abc");
        await transcript.until("echo: ready\nabc");
        machine.reset();
        await transcript.until("abcecho: ready\n");
        machine.console.write("def\x04");
        await machine.wait(PATIENCE);
        expect(await transcript.ended).toBe("echo: ready\nabcecho: ready\ndef\necho: bytes 3\necho: ok\n");
      });
    },
    PATIENCE,
  );

  it(
    "a machine without a UART has no output, and needs none",
    async () => {
      await using machine = await Machine.create(guest("hello", {}, { uart: false }));
      const { output, info, stats } = await finish(machine);
      expect(output).toBe("");
      expect(info.cause).toBe("poweroff");
      expect(stats.vcpus[0]?.unclaimedPio).toBeGreaterThan(40);
    },
    PATIENCE,
  );
});
