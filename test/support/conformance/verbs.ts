// SPDX-License-Identifier: Apache-2.0
/** Checks of the verbs, in the order of a machine's life. */
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { VmEvent } from "../../../src/vmm/backend.js";
import type { Check } from "./check.js";
import { networkState } from "./network.js";
import { ConsoleShell } from "./shell.js";
import { NAT_NIC, PLAIN, type World } from "./world.js";

const LINES = 400;
/** How long the machine stands still, at least. */
const STILL_MS = 4000;

/** The second column is the guest's own clock, hundredths of a second since its boot. */
const STREAM = `i=0; while [ $i -lt ${LINES} ]; do read up rest </proc/uptime; echo "line $i \${up%.*}\${up#*.}"; i=$((i+1)); usleep 20000; done`;

/** What a distribution's does when the power button is pressed. It listens when the command returns. */
const POWER_MANAGER =
  "for e in /dev/input/event*; do exec 3<$e; (dd bs=24 count=1 <&3 >/dev/null 2>&1 && echo the button was pressed && poweroff -f) & done";

interface Line {
  readonly number: number;
  /** Milliseconds of the guest's. */
  readonly time: number;
}

function linesOf(text: string): Line[] {
  return [...text.matchAll(/^line (\d+) (\d+)\r?$/gm)].map(([, number, time]) => ({
    number: Number(number),
    time: Number(time) * 10,
  }));
}

/** Nothing comes any more. @returns what had come until then */
async function standsStill(shell: ConsoleShell): Promise<string> {
  let before = shell.text;
  for (;;) {
    await sleep(500);
    if (shell.text === before) return before;
    before = shell.text;
  }
}

/** A stream of numbered lines through pause, resume, detaching and attaching. */
async function pauseAndResume(world: World): Promise<void> {
  const { definition, shell } = await world.guest();
  const { backend } = world;
  const { name } = definition;
  const start = shell.text.length;
  const done = shell.run(STREAM);
  done.catch(() => {}); // awaited below, unless something else fails first
  await shell.until(() => linesOf(shell.text.slice(start)).length >= 50, "the 50th line");
  await backend.pause(name);
  expect((await backend.status(name)).state).toBe("paused");
  const text = await standsStill(shell);
  expect(linesOf(text.slice(start)).length, "the guest ran on").toBeLessThan(LINES);
  const paused = Date.now();
  // Attached while it is paused: all that was said so far, once.
  const second = new ConsoleShell(await backend.console(name));
  await second.until(() => second.text.length >= text.length, "what was said so far");
  await sleep(STILL_MS);
  expect(shell.text).toBe(text);
  expect(second.text).toBe(text);
  second.stream.destroy();
  const still = Date.now() - paused;
  await backend.resume(name);
  expect((await backend.status(name)).state).toBe("running");
  // Others come and go meanwhile; one of them stays.
  const third = new ConsoleShell(await backend.console(name));
  await third.until(() => linesOf(third.text).length >= 60, "the 60th line");
  const fourth = new ConsoleShell(await backend.console(name));
  third.stream.destroy();
  expect((await done).code).toBe(0);
  const lines = linesOf(shell.text.slice(start));
  expect(lines.map(({ number }) => number)).toEqual(Array.from({ length: LINES }, (_, i) => i));
  await fourth.until(() => fourth.text.length >= shell.text.length, "all of it");
  expect(fourth.text).toBe(shell.text);
  fourth.stream.destroy();
  // The guest did not notice: between two lines less time has passed for it than it stood still.
  const gaps = lines.slice(1).map(({ time }, i) => time - (lines[i]?.time ?? 0));
  expect(Math.max(...gaps)).toBeLessThan(still);
}

/** @returns what comes until `stop` is called */
function listen(world: World, name: string): { readonly events: VmEvent[]; stop(): Promise<void> } {
  const events: VmEvent[] = [];
  const end = new AbortController();
  const listening = (async () => {
    for await (const event of world.backend.events(name, { signal: end.signal })) events.push(event);
  })().catch((error: unknown) => {
    if (!end.signal.aborted) throw error;
  });
  return {
    events,
    async stop() {
      end.abort();
      await listening;
    },
  };
}

async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    if (await condition()) return;
    await sleep(100);
  }
  throw new Error(`${what}: not within five minutes`);
}

export const VERBS: readonly Check[] = [
  {
    feature: "start",
    name: "a Linux guest comes up, with its CPUs and memory",
    async run(world) {
      const { definition, shell } = await world.guest();
      expect(await shell.sh("nproc")).toBe(String(definition.cpus));
      const kib = Number(await shell.sh("awk '/^MemTotal/ {print $2}' /proc/meminfo"));
      expect(kib * 1024).toBeGreaterThan(definition.memory.bytes / 2);
      expect(kib * 1024).toBeLessThanOrEqual(definition.memory.bytes);
    },
  },
  {
    feature: "start",
    name: "where it fails, an error says why, and nothing is left",
    async run(world) {
      const before = networkState();
      const definition = {
        ...PLAIN,
        name: "fails",
        type: world.backend.type,
        boot: { ...PLAIN.boot, from: "kernel", kernel: world.path("no-such-kernel") } as const,
      };
      // It may also be refused when it is defined.
      const attempt = async () => {
        await world.define(definition as never);
        await world.backend.start("fails");
      };
      await expect(attempt()).rejects.toMatchObject({ code: expect.stringMatching(/^E_(IO|BAD_IMAGE)$/) });
      expect((await world.backend.status("fails")).pid).toBeUndefined();
      expect(networkState()).toBe(before);
      await world.undefine("fails");
    },
  },
  {
    feature: "start",
    name: "aborted, nothing is left",
    async run(world) {
      await world.define({ ...PLAIN, name: "aborted", type: world.backend.type, boot: await world.linux() });
      const abort = new AbortController();
      const started = world.backend.start("aborted", { signal: abort.signal });
      abort.abort();
      await expect(started).rejects.toThrow();
      const { state, pid } = await world.backend.status("aborted");
      expect([state, pid]).toEqual(["stopped", undefined]);
      await world.undefine("aborted");
    },
  },
  {
    feature: "status",
    name: "running, with the number of its process",
    async run(world) {
      const { definition } = await world.guest();
      const { state, pid } = await world.backend.status(definition.name);
      expect(state).toBe("running");
      expect(existsSync(`/proc/${pid}`)).toBe(true);
    },
  },
  {
    feature: "console",
    name: "those who come later get all of it, and can type",
    async run(world) {
      const { definition, shell } = await world.guest();
      const other = new ConsoleShell(await world.backend.console(definition.name));
      const mark = `typed-${Date.now()}`;
      other.type(`echo ${mark.replace("-", "''-")}\n`);
      await other.until(() => other.text.includes(`${mark}\r\n`), "what was typed");
      await shell.until(() => shell.text.includes(`${mark}\r\n`), "what the other typed");
      expect(other.text).toBe(shell.text.slice(0, other.text.length));
      expect(other.text).toContain("V3M-GUEST-READY");
      other.stream.destroy();
    },
  },
  {
    feature: "stats",
    name: "counters of what the guest did grow",
    async run(world) {
      const { definition, shell } = await world.guest();
      const before = await world.backend.stats(definition.name);
      await shell.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
      const after = await world.backend.stats(definition.name);
      for (const name of ["cpu_ns", "uptime_ns"]) {
        expect(Number(after[name]), name).toBeGreaterThan(Number(before[name]));
      }
      expect(Number(after.resident_bytes)).toBeGreaterThan(16 << 20);
    },
  },
  {
    feature: "pause",
    name: "guest time stands still, and no byte of the console is lost",
    run: pauseAndResume,
  },
  {
    feature: "events",
    name: "pause, resume and reset are told, and the end",
    async run(world) {
      const { definition, shell } = await world.guest();
      const { name } = definition;
      const listener = listen(world, name);
      try {
        // Listening has begun when the first event has come.
        await eventually(async () => {
          await world.backend.pause(name);
          await world.backend.resume(name);
          return listener.events.some(({ state }) => state === "running");
        }, "events of a pause and a resume");
        await shell.sh("true");
        expect(listener.events.map(({ state }) => state)).toContain("paused");
        expect(listener.events.every(({ time }) => time instanceof Date)).toBe(true);
      } finally {
        await listener.stop();
      }
    },
  },
  {
    feature: "reset",
    name: "the guest begins anew, and an event says so",
    async run(world) {
      const { definition, shell } = await world.guest();
      await shell.sh("echo was here >/tmp/mark");
      const listener = listen(world, definition.name);
      await sleep(200); // until it listens
      await world.backend.reset(definition.name);
      await shell.begin();
      expect(await shell.sh("ls /tmp")).not.toContain("mark");
      expect((await world.backend.status(definition.name)).state).toBe("running");
      await listener.stop();
      expect(listener.events.map(({ kind }) => kind)).toContain("reset");
    },
  },
];

/** After all checks that need the shared guest: it ends here. */
export const ENDINGS: readonly Check[] = [
  {
    feature: "stop",
    name: "the guest is asked to power off, and nothing is left",
    async run(world) {
      const { definition, shell } = await world.guest();
      const { pid } = await world.backend.status(definition.name);
      await shell.sh(POWER_MANAGER);
      await world.backend.stop(definition.name);
      const status = await world.backend.status(definition.name);
      expect([status.state, status.pid]).toEqual(["stopped", undefined]);
      expect(existsSync(`/proc/${pid}`)).toBe(false);
      await shell.until(() => shell.ended, "the console's end").catch(() => {});
      expect(shell.ended).toBe(true);
      expect(shell.text).toContain("the button was pressed");
      expect(status.detail).not.toMatch(/force/);
      await world.forget();
    },
  },
  {
    feature: "status",
    name: "a machine whose process was killed has crashed, and is cleaned up",
    async run(world) {
      await world.define({ ...PLAIN, name: "killed", type: world.backend.type, boot: await world.linux() });
      await world.backend.start("killed");
      const { pid } = await world.backend.status("killed");
      process.kill(pid ?? 0, "SIGKILL");
      await eventually(async () => (await world.backend.status("killed")).state === "crashed", "the crash");
      expect((await world.backend.status("killed")).detail).toMatch(/kill/i);
      await world.backend.cleanUp("killed");
      await world.backend.start("killed");
      expect((await world.backend.status("killed")).state).toBe("running");
    },
  },
  {
    feature: "stop",
    name: "by force, at once",
    async run(world) {
      await world.backend.stop("killed", { force: true });
      expect((await world.backend.status("killed")).state).toBe("stopped");
      await world.undefine("killed");
    },
  },
  {
    feature: "nic:TUN/TAP+NAT",
    name: "nothing is left on the host, without a command, when the guest powers off by itself",
    needs: ["private-net"],
    async run(world) {
      const before = networkState();
      const boot = await world.linux();
      await world.define({
        ...PLAIN,
        name: "off",
        type: world.backend.type,
        boot: { ...boot, cmdline: `${boot.cmdline} v3m.run=true` },
        nics: [NAT_NIC],
      });
      await world.backend.start("off");
      expect(networkState()).not.toBe(before);
      await eventually(() => networkState() === before, "the end of its traces");
      expect((await world.backend.status("off")).state).toBe("stopped");
      await world.undefine("off");
    },
  },
];
