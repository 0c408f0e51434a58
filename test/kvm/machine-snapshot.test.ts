// SPDX-License-Identifier: Apache-2.0
/** Tiny guests are saved in the middle of their work and go on in another machine; what is refused, and why. */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  compressSnapshot,
  Machine,
  type MachineOptions,
  readSnapshot,
  verifySnapshot,
} from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { finish, guest, PATIENCE, roundsOf, run, Transcript, withRunning } from "../support/machines.js";
import { gone, MonitorPlace } from "../support/monitors.js";

suite("snapshots", { needs: ["kvm"] }, () => {
  let work: string;
  let place: MonitorPlace;
  let count = 0;
  const fresh = () => join(work, `s${count++}`);
  const directory = () => ({ directory: place.directory() });

  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), "v3m-snapshot-"));
    place = new MonitorPlace();
  });
  afterAll(async () => {
    await place.remove();
    rmSync(work, { recursive: true, force: true });
  });

  /** Run a guest to its end with a snapshot on the way, and go on from there in other machines. */
  async function continues(options: MachineOptions, until: string): Promise<string> {
    const path = fresh();
    let before = "";
    let whole = "";
    await withRunning(options, until, async (machine, transcript) => {
      await machine.snapshot(path);
      await machine.wait(PATIENCE);
      whole = await transcript.ended;
    });
    await verifySnapshot(path);
    await using copy = await Machine.restore(path, options);
    const { output, info } = await finish(copy);
    expect(info.cause).toBe("poweroff");
    expect(whole.endsWith(output), `${JSON.stringify(whole)} ends with ${JSON.stringify(output)}`).toBe(true);
    before = whole.slice(0, whole.length - output.length);
    expect(before.length).toBeGreaterThanOrEqual(until.length);
    return output;
  }

  it("continue with arithmetic", async () => {
    const options = guest("compute", { rounds: roundsOf(200_000, 30_000, 60_000) });
    const whole = await run(options);
    const path = fresh();
    await using machine = await Machine.create(options);
    machine.start();
    await machine.pause();
    await machine.snapshot(path);
    expect(machine.state).toBe("paused");
    await using copy = await Machine.restore(path, options);
    expect(copy.state).toBe("created");
    expect((await finish(copy)).output).toBe(whole.output);
  });

  it("continue with halts, timers and their interrupts", async () => {
    expect(await continues(guest("halt", { count: 20, ticks: 2_000_000 }), "halt: ready\n")).toMatch(
      /wake-ups 20\nhalt: ok\n$/,
    );
  });

  it("continue with 2 vCPUs that interrupt each other", async () => {
    expect(
      await continues(
        guest("smp", { cpus: 2, rounds: roundsOf(800, 200, 1000) }, { cpus: 2 }),
        "smp: cpus 2\n",
      ),
    ).toMatch(/smp: ok\n$/);
  });

  it("restore from a machine in this process into a monitor, and the other way round", async () => {
    const options = guest("echo");
    const path = fresh();
    const second = fresh();
    const where = directory();
    await withRunning(options, "echo: ready\n", (machine) => machine.snapshot(path, { note: "a note" }));
    expect(readSnapshot(path)).toMatchObject({ cpus: 1, kind: "flat64", note: Buffer.from("a note") });
    {
      await using copy = await Machine.restore(path, options, where);
      const transcript = new Transcript(copy);
      copy.start();
      copy.console.write("monitored\n");
      await transcript.until("monitored\n");
      await copy.snapshot(second, { note: "x".repeat(100_000) });
      expect(copy.state).toBe("running");
      copy.console.write("goes on\n");
      await transcript.until("goes on\n");
      await copy.quit();
    }
    await gone(where.directory);
    expect(readSnapshot(second).note.length).toBe(100_000);
    await using back = await Machine.restore(second, options);
    const transcript = new Transcript(back);
    back.start();
    back.console.write("here again\n");
    await transcript.until("here again\n");
    expect(transcript.text).not.toContain("goes on");
  });

  it("share the memory that nobody writes, and are never written to", async () => {
    const options = guest("echo", {}, { memory: 64 << 20 });
    const path = fresh();
    await withRunning(options, "echo: ready\n", (machine) => machine.snapshot(path));
    const memory = statSync(join(path, "memory"));
    expect(memory.size).toBe(64 << 20);
    expect(memory.blocks * 512).toBeLessThan(4 << 20);
    const content = readFileSync(join(path, "memory"));
    const machines = await Promise.all([1, 2, 3].map(() => Machine.restore(path, options)));
    try {
      for (const [index, machine] of machines.entries()) {
        const transcript = new Transcript(machine);
        machine.start();
        machine.console.write(`number ${index}\n`);
        await transcript.until(`number ${index}\n`);
      }
    } finally {
      for (const machine of machines) await machine.dispose();
    }
    expect(readFileSync(join(path, "memory")).equals(content)).toBe(true);
  });

  it("may be removed while a machine that was restored runs, and are not needed for its reset", async () => {
    const options = guest("echo");
    const path = fresh();
    await withRunning(options, "echo: ready\n", (machine) => machine.snapshot(path));
    await using copy = await Machine.restore(path, options);
    rmSync(path, { recursive: true });
    const transcript = new Transcript(copy);
    copy.start();
    copy.console.write("still here\n");
    await transcript.until("still here\n");
    copy.reset();
    await transcript.until("echo: ready\n");
    expect(copy.kind).toBe("flat64");
  });

  it.each(["memfd", "anon"] as const)("restore memory that is %s", async (backing) => {
    const options = guest("echo", {}, { memory: [{ bytes: 4 << 20, backing }, { bytes: 4 << 20 }] });
    const path = fresh();
    await withRunning(options, "echo: ready\n", (machine) => machine.snapshot(path));
    await using copy = await Machine.restore(path, options);
    const transcript = new Transcript(copy);
    copy.start();
    copy.console.write("hello\n");
    await transcript.until("hello\n");
  });

  describe("with a base", () => {
    const options = guest("echo", {}, { memory: [{ bytes: 8 << 20 }, { bytes: 32 << 20 }] });
    const AT = [0x300000, 0x400000, 0x900000, 0x2000000, 0x2100000];
    const page = (text: string) => Buffer.alloc(4096, text);
    const blocks = (path: string) => statSync(join(path, "memory")).blocks * 512;

    /** Three snapshots, each based on the one before; in between pages are written, changed, and zeroed. */
    async function series(machine: Machine): Promise<string[]> {
      const paths = [fresh(), fresh(), fresh()];
      const [first = "", second = "", third = ""] = paths;
      const write = (index: number, text: string) =>
        machine.memory.bytes(AT[index] ?? 0, 4096).set(page(text));
      for (const index of [0, 1, 2]) write(index, "one ");
      await machine.snapshot(first);
      write(0, "two ");
      write(1, "\0");
      write(3, "two ");
      await machine.snapshot(second, { base: first });
      write(1, "late");
      write(2, "late");
      write(3, "\0");
      machine.memory.bytes(0x1000000, 1 << 20).fill(7);
      await machine.snapshot(third, { base: second });
      return paths;
    }
    const CONTENTS = [
      ["one ", "one ", "one ", "\0", "\0"],
      ["two ", "\0", "one ", "two ", "\0"],
      ["two ", "late", "late", "\0", "\0"],
    ];

    it("write what has changed, and are restored and verified whole", async () => {
      await withRunning(options, "echo: ready\n", async (machine) => {
        const paths = await series(machine);
        expect(paths.map((path) => readSnapshot(path).bases)).toEqual([0, 1, 2]);
        expect(readSnapshot(paths[1] ?? "").base).toBe(readSnapshot(paths[0] ?? "").id);
        expect(blocks(paths[1] ?? "")).toBeLessThanOrEqual(128 << 10);
        expect(readSnapshot(paths[1] ?? "").ownBytes).toBeLessThan(readSnapshot(paths[1] ?? "").dataBytes);
        expect(readSnapshot(paths[2] ?? "").ownBytes).toBeGreaterThanOrEqual(BigInt(1 << 20));
        for (const [index, path] of paths.entries()) {
          await verifySnapshot(path);
          await using copy = await Machine.restore(path, options);
          expect(AT.map((gpa) => copy.memory.read(gpa, 4096).equals(page("\0")))).toEqual(
            CONTENTS[index]?.map((text) => text === "\0"),
          );
          for (const [i, gpa] of AT.entries()) {
            expect(copy.memory.read(gpa, 4096).equals(page(CONTENTS[index]?.[i] ?? ""))).toBe(true);
          }
          expect(copy.memory.read(0x1000000, 1 << 20).every((byte) => byte === (index === 2 ? 7 : 0))).toBe(
            true,
          );
          const transcript = new Transcript(copy);
          copy.start();
          copy.console.write("goes on\n");
          await transcript.until("goes on\n");
        }
      });
    });

    it("do not need it any more", async () => {
      await withRunning(options, "echo: ready\n", async (machine) => {
        const [first = "", second = "", third = ""] = await series(machine);
        rmSync(second, { recursive: true });
        await verifySnapshot(third);
        rmSync(first, { recursive: true });
        await verifySnapshot(third);
        await using copy = await Machine.restore(third, options, directory());
        const transcript = new Transcript(copy);
        copy.start();
        copy.console.write("goes on\n");
        await transcript.until("goes on\n");
        await copy.snapshot(second, { base: third }); // by a monitor, of files that it is given
        await verifySnapshot(second);
        expect(readSnapshot(second)).toMatchObject({ bases: 3 });
        expect(blocks(second)).toBeLessThanOrEqual(256 << 10);
        await copy.quit();
      });
    });

    it("notice where one of its files is damaged or gone", async () => {
      await withRunning(options, "echo: ready\n", async (machine) => {
        const [first = "", second = "", third = ""] = await series(machine);
        const memory = readFileSync(join(first, "memory"));
        memory[AT[2] ?? 0] = 0x55;
        rmSync(join(second, "memory-1"));
        writeFileSync(join(second, "memory-1"), memory);
        await expect(verifySnapshot(second)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
        writeFileSync(join(second, "memory-1"), memory.subarray(4096));
        for (const use of [verifySnapshot, (path: string) => Machine.restore(path, options)]) {
          await expect(use(second)).rejects.toMatchObject({ code: "E_TRUNCATED" });
        }
        rmSync(join(third, "memory-2"));
        await expect(Machine.restore(third, options)).rejects.toMatchObject({
          code: "E_IO",
          errno: "ENOENT",
        });
      });
    });

    it("refuse one of other memory, none at all, and too many on top of each other", async () => {
      const others = guest("echo", {}, { memory: 16 << 20 });
      const other = fresh();
      await withRunning(others, "echo: ready\n", (machine) => machine.snapshot(other));
      await withRunning(options, "echo: ready\n", async (machine) => {
        const refused = fresh();
        await expect(machine.snapshot(refused, { base: other })).rejects.toMatchObject({ code: "E_INVALID" });
        await expect(machine.snapshot(refused, { base: fresh() })).rejects.toMatchObject({ code: "E_IO" });
        expect(readdirSync(work).filter((name) => refused.endsWith(name.slice(0, 3)))).toEqual([]);
        let base = fresh();
        await machine.snapshot(base);
        for (let i = 1; i < 8; i++) {
          const next = fresh();
          await machine.snapshot(next, { base });
          base = next;
        }
        await verifySnapshot(base);
        await expect(machine.snapshot(refused, { base })).rejects.toMatchObject({ code: "E_LIMIT" });
        expect(machine.state).toBe("running");
      });
    });
  });

  describe("compressed", () => {
    const options = guest("echo", {}, { memory: [{ bytes: 8 << 20 }, { bytes: 32 << 20 }] });
    const BIG = 0x1000000;
    const big = Buffer.alloc(4 << 20, "is said again and again ");

    /** A guest that has something to compress, at work. */
    const withBig = (work: (machine: Machine) => Promise<void>) =>
      withRunning(options, "echo: ready\n", async (machine) => {
        machine.memory.bytes(BIG, big.length).set(big);
        await work(machine);
      });

    /** It is all there, and the guest goes on. */
    async function goesOn(machine: Machine, text: string): Promise<void> {
      const transcript = new Transcript(machine);
      machine.start();
      machine.console.write(`${text}\n`);
      await transcript.until(`${text}\n`);
    }

    it("are smaller, undamaged, and restored in this process and in monitors", async () => {
      const path = fresh();
      await withBig(async (machine) => {
        await machine.snapshot(path, { compress: true, note: "a note" });
        expect(machine.state).toBe("running");
      });
      expect(readdirSync(path).sort()).toEqual(["memory", "state"]);
      const info = readSnapshot(path);
      expect(info).toMatchObject({ compressed: true, note: Buffer.from("a note") });
      expect(info.storedBytes).toBe(BigInt(statSync(join(path, "memory")).size));
      expect(info.ownBytes).toBeGreaterThanOrEqual(BigInt(big.length));
      expect(info.storedBytes).toBeLessThan(info.ownBytes / 8n);
      await verifySnapshot(path);
      {
        await using copy = await Machine.restore(path, options);
        expect(copy.memory.read(BIG, big.length).equals(big)).toBe(true);
        await goesOn(copy, "here");
      }
      const second = fresh();
      {
        await using copy = await Machine.restore(path, options, directory());
        await goesOn(copy, "in a monitor");
        await copy.snapshot(second, { compress: true });
        expect(copy.state).toBe("running");
        await copy.quit();
      }
      rmSync(path, { recursive: true });
      await using back = await Machine.restore(second, options);
      expect(back.memory.read(BIG, big.length).equals(big)).toBe(true);
      await goesOn(back, "here again");
      using point = await back.forkPoint();
      await using clone = await Machine.clone(point, { ...options, name: "clone" });
      expect(clone.memory.read(BIG, big.length).equals(big)).toBe(true);
      await goesOn(clone, "a clone");
      back.reset();
    });

    it.each(["memfd", "anon"] as const)("restore memory that is %s", async (backing) => {
      const mixed = guest("echo", {}, { memory: [{ bytes: 4 << 20, backing }, { bytes: 4 << 20 }] });
      const path = fresh();
      await withRunning(mixed, "echo: ready\n", (machine) => machine.snapshot(path, { compress: true }));
      for (const where of [undefined, directory()]) {
        await using copy = await Machine.restore(path, mixed, where);
        await goesOn(copy, "hello");
        if (where !== undefined) await copy.quit();
      }
    });

    it("are bases, and have bases, by monitors as well", async () => {
      const [first, second, third] = [fresh(), fresh(), fresh()];
      await withBig(async (machine) => {
        await machine.snapshot(first, { compress: true });
        machine.memory.bytes(BIG + 0x2000, 4096).fill(0);
        await machine.snapshot(second, { base: first });
        expect(readSnapshot(second)).toMatchObject({ compressed: false, bases: 1 });
        expect(readSnapshot(second).ownBytes).toBeLessThan(BigInt(256 << 10));
      });
      {
        await using copy = await Machine.restore(second, options, directory());
        await goesOn(copy, "in a monitor");
        await copy.snapshot(third, { base: second, compress: true });
        await copy.quit();
      }
      expect(readSnapshot(third)).toMatchObject({ compressed: true, bases: 2 });
      for (const path of [first, second]) rmSync(path, { recursive: true });
      await verifySnapshot(third);
      await using copy = await Machine.restore(third, options);
      expect(copy.memory.read(BIG + 0x1000, 4096).equals(big.subarray(0x1000, 0x2000))).toBe(true);
      expect(copy.memory.read(BIG + 0x2000, 4096).equals(Buffer.alloc(4096))).toBe(true);
      await goesOn(copy, "here");
    });

    it("are made of others later; what is damaged is refused", async () => {
      const [plain, path, damaged] = [fresh(), fresh(), fresh()];
      await withBig((machine) => machine.snapshot(plain));
      await compressSnapshot(plain, path);
      expect(readSnapshot(path).id).toBe(readSnapshot(plain).id);
      await expect(compressSnapshot(path, damaged)).rejects.toMatchObject({ code: "E_INVALID" });
      mkdirSync(damaged);
      copyFileSync(join(path, "state"), join(damaged, "state"));
      const memory = readFileSync(join(path, "memory"));
      memory[100] = (memory[100] ?? 0) ^ 1;
      const uses = [
        () => verifySnapshot(damaged),
        () => Machine.restore(damaged, options),
        () => Machine.restore(damaged, options, directory()),
      ];
      writeFileSync(join(damaged, "memory"), memory);
      for (const use of uses) await expect(use()).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
      writeFileSync(join(damaged, "memory"), memory.subarray(1));
      for (const use of uses) await expect(use()).rejects.toMatchObject({ code: "E_TRUNCATED" });
      const large = guest("echo", {}, { memory: 16 << 20 });
      for (const where of [undefined, directory()]) {
        await expect(Machine.restore(path, large, where)).rejects.toMatchObject({
          code: "E_INVALID",
          message: expect.stringMatching(/is of 40 MiB of memory, the machine has 16 MiB/),
        });
      }
    });
  });

  describe("refuse", () => {
    let path: string;
    const options = guest("echo");
    beforeAll(async () => {
      path = fresh();
      await withRunning(options, "echo: ready\n", (machine) => machine.snapshot(path));
    });

    it.each([
      ["other memory", { memory: 32 << 20 }, /memory region 0 has 16 MiB in the snapshot, 32 MiB/],
      ["more vCPUs", { cpus: 2 }, /number of vCPUs is 1 there, 2 here/],
      ["a further device", { rng: true }, /number of PCI devices is 0 there, 1 here/],
      ["no UART", { uart: false }, /UART, power button, XSAVE/],
    ] as const)("%s", async (_what, change, message) => {
      await expect(Machine.restore(path, { ...options, ...change })).rejects.toMatchObject({
        code: "E_INVALID",
        message: expect.stringMatching(message),
      });
    });

    it("a damaged state and a short memory, also in a monitor", async () => {
      const damaged = fresh();
      rmSync(damaged, { recursive: true, force: true });
      mkdirSync(damaged);
      const state = readFileSync(join(path, "state"));
      state[state.length >> 1] = (state[state.length >> 1] ?? 0) ^ 1;
      writeFileSync(join(damaged, "state"), state);
      copyFileSync(join(path, "memory"), join(damaged, "memory"));
      for (const where of [undefined, directory()]) {
        await expect(Machine.restore(damaged, options, where)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
      }
      copyFileSync(join(path, "state"), join(damaged, "state"));
      rmSync(join(damaged, "memory"));
      writeFileSync(join(damaged, "memory"), Buffer.alloc(4096));
      for (const where of [undefined, directory()]) {
        await expect(Machine.restore(damaged, options, where)).rejects.toMatchObject({ code: "E_TRUNCATED" });
      }
    });

    it("to be written where something is, or from a machine that has ended", async () => {
      await withRunning(options, "echo: ready\n", async (machine) => {
        await expect(machine.snapshot(path)).rejects.toMatchObject({ code: "E_IO", errno: "EEXIST" });
        expect(machine.state).toBe("running");
        await machine.stop();
        const never = fresh();
        await expect(machine.snapshot(never)).rejects.toMatchObject({ code: "E_STATE" });
        expect(readdirSync(work)).not.toContain(never);
      });
      await verifySnapshot(path);
    });
  });
});
