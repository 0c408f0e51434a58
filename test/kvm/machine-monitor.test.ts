// SPDX-License-Identifier: Apache-2.0
/** Machines in monitor processes: the same calls, from this process and from others, and every way to end. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import {
  ClosedError,
  Machine,
  monitorStatus,
  readConsoleHistory,
  type StopInfo,
  VmmError,
} from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { busy, guest, nextReset, PATIENCE, roundsOf, Transcript } from "../support/machines.js";
import { exchange, flood } from "../support/seqpacket.js";

let root: string;
let directories = 0;
const running = new Set<string>();

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "v3m-monitor-"));
});
afterAll(async () => {
  for (const directory of running) {
    const machine = await Machine.connect(directory).catch(() => undefined);
    await machine?.quit();
    await machine?.dispose();
  }
  rmSync(root, { recursive: true, force: true });
});

function place(): string {
  const directory = join(root, `m${directories++}`);
  mkdirSync(directory);
  running.add(directory);
  return directory;
}

/** All that comes from a stream until its end. */
async function drained(stream: Duplex): Promise<string> {
  let text = "";
  stream.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  await once(stream, "end");
  return text;
}

/** Until the stream has said a text. */
async function said(stream: Duplex, wanted: string): Promise<string> {
  let text = "";
  for (;;) {
    const chunk = stream.read() as Buffer | null;
    if (chunk === null) {
      await once(stream, "readable");
      continue;
    }
    text += chunk.toString("latin1");
    if (text.includes(wanted)) {
      return text;
    }
  }
}

async function gone(directory: string): Promise<ReturnType<typeof monitorStatus>> {
  for (;;) {
    const status = monitorStatus(directory);
    if (!status.alive) {
      return status;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

suite("a machine in a monitor", { needs: ["kvm"] }, () => {
  it(
    "is used like one in this process",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(guest("hello"), { directory, name: "hello" });
      expect(machine.monitored).toBe(true);
      expect(machine.state).toBe("created");
      expect(machine.kind).toBe("flat64");
      const transcript = new Transcript(machine);
      machine.start();
      const info = await machine.wait();
      expect(await transcript.ended).toContain("hello: ok\n");
      expect(info).toMatchObject({ state: "stopped", cause: "poweroff", text: "the guest powered off" });
      expect(machine.state).toBe("stopped");
      expect(machine.stats().vcpus[0]?.runs).toBeGreaterThan(0);
      const status = await gone(directory);
      expect(status).toMatchObject({ name: "hello", state: "stopped", text: "the guest powered off" });
      expect(readConsoleHistory(directory).toString()).toContain("hello: ok");
    },
    PATIENCE,
  );

  it(
    "outlives its starter, and is found again",
    async () => {
      const directory = place();
      const script = `
        import { Machine } from ${JSON.stringify(join(packageRoot(), "dist/src/vmm/index.js"))};
        const [directory, kernel] = process.argv.slice(1);
        const machine = await Machine.spawn(
          { kernel, kind: "flat64", loadAddress: 0x100000, memory: 16 << 20 }, { directory });
        machine.start();
        await machine.dispose();`;
      const { kernel, loadAddress } = busy(0);
      const file = join(root, "busy.bin");
      writeFileSync(file, kernel);
      execFileSync(
        process.execPath,
        ["--input-type=module", "-e", script.replace("0x100000", String(loadAddress)), directory, file],
        { stdio: ["ignore", "ignore", "inherit"] },
      );
      await using machine = await Machine.connect(directory);
      expect(machine.state).toBe("running");
      expect(machine.cpus).toBe(1);
      expect(machine.monitorInfo()).toMatchObject({ state: "running", cpus: 1, memoryBytes: 16n << 20n });
      await machine.ping();
      const console = machine.joinConsole();
      expect(await said(console, "busy: ready")).toContain("busy: ready");
      const stopped = once(machine, "stop");
      await machine.stop();
      expect((await stopped)[0] as StopInfo).toMatchObject({ cause: "request" });
      expect((await gone(directory)).state).toBe("stopped");
      await expect(Machine.connect(directory)).rejects.toMatchObject({
        code: "E_STATE",
        message: expect.stringContaining("stopped by request"),
      });
    },
    PATIENCE,
  );

  it(
    "has clients that come and go, as many as there are",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(busy(0), { directory });
      machine.start();
      for (let i = 0; i < 30; i++) {
        await using client = await Machine.connect(directory);
        expect(client.state).toBe("running");
      }
      await machine.quit();
    },
    PATIENCE,
  );

  it(
    "goes with its handle before the start, and not after it",
    async () => {
      const first = place();
      const unstarted = await Machine.spawn(busy(0), { directory: first });
      const { pid } = unstarted.monitorInfo();
      expect(existsSync(`/proc/${pid}`)).toBe(true);
      await unstarted.dispose();
      expect((await gone(first)).state).not.toBe("running");

      const second = place();
      const started = await Machine.spawn(busy(0), { directory: second });
      started.start();
      const waiting = started.wait();
      await started.dispose();
      await expect(waiting).rejects.toThrow(ClosedError);
      expect(monitorStatus(second)).toMatchObject({ alive: true, state: "running" });
      await using again = await Machine.connect(second);
      await again.quit();
      expect(await gone(second)).toMatchObject({ alive: false, state: "stopped" });
    },
    PATIENCE,
  );

  it(
    "is paused, resumed and reset by several clients, who all hear of it",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(guest("reset"), { directory });
      machine.start();
      await nextReset(machine);
      await using other = await Machine.connect(directory);
      const states: string[] = [];
      machine.on("state", (state) => states.push(state));
      const paused = once(other, "state");
      await machine.pause();
      expect(await paused).toEqual(["paused"]);
      const { resets } = other.stats();
      expect(monitorStatus(directory)).toMatchObject({ state: "paused", resets });
      await expect(other.pause()).rejects.toMatchObject({ code: "E_STATE" });
      other.resume();
      await nextReset(machine);
      expect(other.stats().resets).toBeGreaterThan(resets);
      expect(states).toEqual(["paused", "running"]);
      expect(() => machine.addDevice({ space: "pio", base: 0x510, bytes: 1, read: () => 0 })).toThrow(
        /monitor process/,
      );
      await machine.stop();
    },
    PATIENCE,
  );

  it(
    "is stopped by a signal to its process, and goes on with another",
    async () => {
      await using machine = await Machine.spawn(guest("echo"), { directory: place() });
      machine.start();
      const console = machine.joinConsole();
      const { pid } = machine.monitorInfo();
      for (const text of ["one", "two", "three"]) {
        console.write(text);
        await said(console, text);
        process.kill(pid, "SIGSTOP");
        while (!/^State:\tT/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) await sleep(1);
        process.kill(pid, "SIGCONT");
        await machine.ping();
      }
      expect(machine.state).toBe("running");
      await machine.stop();
    },
    PATIENCE,
  );

  it(
    "keeps what the console said, and gives all of it to each who joins",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(guest("echo"), { directory, history: 256 });
      machine.start();
      const first = machine.joinConsole();
      first.write("abc");
      const start = await said(first, "abc");
      await using other = await Machine.connect(directory);
      const second = other.joinConsole();
      expect(await said(second, "abc")).toBe(start);
      second.write("def");
      expect(await said(second, "def")).toBe("def");
      expect(await said(first, "def")).toBe("def");
      first.destroy();
      second.destroy();
      // Nobody is attached: the guest goes on, and the newest 256 bytes stay.
      let third = other.joinConsole();
      third.write("x".repeat(300));
      await said(third, "x".repeat(300));
      third.destroy();
      third = other.joinConsole();
      third.write("\x04");
      expect(await drained(third)).toMatch(/^x{200,256}/);
      expect(readConsoleHistory(directory).length).toBe(256);
    },
    PATIENCE,
  );
});

suite("a guest's crash in a monitor", { needs: ["kvm", "triple-fault"] }, () => {
  it(
    "is reported with its registers",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(guest("triple"), { directory });
      machine.start();
      const info = await machine.wait();
      expect(info).toMatchObject({ state: "crashed", cause: "triple-fault" });
      const status = await gone(directory);
      expect(status).toMatchObject({ state: "crashed", text: info.text });
      expect(status.stop?.registers?.rip).toBe(info.registers?.rip);
    },
    PATIENCE,
  );
});

suite("modules in a monitor", { needs: ["kvm"] }, () => {
  const TALLY = join(packageRoot(), "native/build/release/tally.so");

  it(
    "are those that were named at the start; they come and go while the guest calls them",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(guest("hypercall", { rounds: 0 }), {
        directory,
        modules: [TALLY],
      });
      machine.start();
      await said(machine.joinConsole(), "version 1");
      for (let round = 0; round < roundsOf(5, 20, 100); round++) {
        const handle = await machine.loadModule(TALLY, "port=0x510");
        while ((handle.info()?.hypercalls ?? 0n) < 2n) {
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        expect(machine.modules.list()).toMatchObject([{ name: "tally", state: "running", parts: 3 }]);
        await handle.remove();
        expect(machine.modules.list()).toEqual([]);
      }
      await expect(machine.loadModule("/usr/lib/no-module.so", "")).rejects.toMatchObject({
        code: "E_PERMISSION",
        message: expect.stringContaining("was not named"),
      });
      expect(machine.state).toBe("running");
      await machine.quit();
    },
    PATIENCE,
  );

  it(
    "what is no module is refused before there is a machine",
    async () => {
      const file = join(root, "no.so");
      writeFileSync(file, "garbage");
      await expect(Machine.spawn(busy(0), { directory: place(), modules: [file] })).rejects.toMatchObject({
        code: "E_BAD_IMAGE",
      });
    },
    PATIENCE,
  );
});

suite("a monitor that ends badly", { needs: ["kvm"] }, () => {
  it(
    "is noticed by those who are connected, and leaves the others alone",
    async () => {
      const [doomed, neighbour] = [place(), place()];
      await using machine = await Machine.spawn(busy(0), { directory: doomed });
      await using other = await Machine.spawn(busy(0), { directory: neighbour });
      machine.start();
      other.start();
      process.kill(machine.monitorInfo().pid, "SIGKILL");
      expect(await machine.wait()).toMatchObject({
        state: "crashed",
        cause: "monitor-ended",
        text: expect.stringContaining("SIGKILL"),
      });
      expect(machine.state).toBe("crashed");
      await expect(machine.pause()).rejects.toMatchObject({ code: "E_STATE" });
      expect(await gone(doomed)).toMatchObject({ state: "crashed", text: expect.stringContaining("killed") });
      expect(monitorStatus(neighbour)).toMatchObject({ alive: true, state: "running" });
      await other.ping();
      await other.stop();
    },
    PATIENCE,
  );

  it(
    "leaves its last words",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(busy(0), { directory });
      machine.start();
      process.kill(machine.monitorInfo().pid, "SIGSEGV");
      const info = await machine.wait();
      expect(info).toMatchObject({ state: "crashed", cause: "monitor-ended" });
      // Sent to the process: any thread may take it.
      expect(info.text).toMatch(/bad memory access \(SIGSEGV\) in its thread (control|io|vcpu)$/);
      expect(await gone(directory)).toMatchObject({
        state: "crashed",
        fault: { signal: 11 },
      });
    },
    PATIENCE,
  );

  it(
    "ends in order when it is told to terminate",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(busy(0), { directory });
      machine.start();
      process.kill(machine.monitorInfo().pid, "SIGTERM");
      expect(await machine.wait()).toMatchObject({ state: "stopped", cause: "request" });
      expect((await gone(directory)).text).toBe("stopped by request");
    },
    PATIENCE,
  );
});

suite("what a monitor refuses", { needs: ["kvm"] }, () => {
  const refused = async (
    options: Parameters<typeof Machine.spawn>[0],
    where: Partial<Parameters<typeof Machine.spawn>[1]> = {},
  ) => {
    const error = await Machine.spawn(options, { directory: place(), ...where }).then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(VmmError);
    return error as VmmError;
  };

  it(
    "it says in the words that a machine here would",
    async () => {
      const kernel = join(root, "no-kernel");
      const spawned = await refused({ kernel });
      const created = await Machine.create({ kernel }).catch((error: VmmError) => error);
      expect(spawned.message).toBe((created as VmmError).message);
      expect(spawned.code).toBe((created as VmmError).code);
      writeFileSync(kernel, "garbage");
      expect((await refused({ kernel })).code).toBe("E_BAD_IMAGE");
      expect((await refused(busy(0, { cpus: 0 }))).code).toBe("E_INVALID");
      expect((await refused(busy(0, { kvmPath: "/dev/null" }))).code).toBe("E_NO_KVM");
      const disk = await refused(busy(0, { disks: [{ path: join(root, "no-disk") }] }));
      expect(disk.message).toContain("no-disk");
      expect((await refused(busy(0), { directory: join(root, "nowhere") })).code).toBe("E_IO");
      await expect(
        Machine.spawn(busy(0), { directory: root, jailWithout: ["moat" as "root"] }),
      ).rejects.toThrow(/no part "moat"/);
    },
    PATIENCE,
  );

  it(
    "clients of another protocol get a clear answer, and nonsense ends the connection",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(busy(0), { directory });
      machine.start();
      const ask = (bytes: Buffer) => exchange(join(directory, "control"), bytes);
      const head = (major: number, type: number, magic = 0x43334d56) => {
        const bytes = Buffer.alloc(32);
        bytes.writeUInt32LE(magic, 0);
        bytes.writeUInt16LE(major, 4);
        bytes.writeUInt32LE(type, 8);
        return bytes;
      };
      const old = ask(head(0, 1));
      expect(old.readUInt16LE(4)).toBe(1);
      expect(old.readInt32LE(16)).toBe(-5);
      expect(old.toString("latin1")).toContain("speaks version 1.4 of the control protocol, not 0.0");
      expect(ask(head(1, 1, 0)).length).toBe(0);
      expect(ask(Buffer.from("x")).length).toBe(0);
      expect(ask(head(1, 9999)).readInt32LE(16)).toBe(-5);
      expect(ask(head(1, 66)).toString("latin1")).toContain("before the start");
      await machine.ping();
      await machine.stop();
    },
    PATIENCE,
  );

  it(
    "a client that does not read its answers is let go, and does not keep others waiting",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(busy(0), { directory });
      machine.start();
      const ping = Buffer.from(`564d334301000000${"01000000"}${"00".repeat(20)}`, "hex");
      expect(flood(join(directory, "control"), ping, 20_000)).toBeGreaterThan(0);
      await machine.ping();
      await machine.stop();
    },
    PATIENCE,
  );

  it.skipIf(process.getuid?.() !== 0)(
    "others than its owner are turned away",
    async () => {
      const directory = place();
      await using machine = await Machine.spawn(busy(0), { directory });
      machine.start();
      chmodSync(root, 0o755);
      chmodSync(directory, 0o755);
      chmodSync(join(directory, "control"), 0o777);
      const ping = Buffer.from(`564d334301000000${"01000000"}${"00".repeat(20)}`, "hex");
      expect(exchange(join(directory, "control"), ping).length).toBe(32);
      expect(exchange(join(directory, "control"), ping, 65534).length).toBe(0);
      await machine.ping();
      await machine.stop();
    },
    PATIENCE,
  );
});
