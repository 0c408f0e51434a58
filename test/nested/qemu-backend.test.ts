// SPDX-License-Identifier: Apache-2.0
/** What is QEMU's own: how its machines end and what is known of it afterwards; starts that fail or are killed. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";
import { packageRoot } from "../../src/package-root.js";
import { qemuBackend } from "../../src/v3m/backends/qemu/index.js";
import type { VmDefinition } from "../../src/v3m/definition/types.js";
import { isRunning, readProcess } from "../../src/v3m/supervise/index.js";
import type { VmEvent, VmStatus } from "../../src/vmm/backend.js";
import { World } from "../support/conformance/index.js";
import { ConsoleShell } from "../support/conformance/shell.js";
import { disk, MIB, PLAIN } from "../support/conformance/world.js";
import { rounds } from "../support/places.js";

let world: World;

beforeEach(async () => {
  world = await World.create(qemuBackend);
});
afterEach(() => world.dispose());

/** A machine that runs a command and powers off. */
async function machine(command: string, more: Partial<VmDefinition> = {}): Promise<VmDefinition> {
  const kernel = await ensureKernel("cloud");
  return {
    ...PLAIN,
    name: "m",
    type: "Qemu",
    memory: { bytes: 128 * MIB, backing: "thp", prefault: false },
    boot: {
      from: "kernel",
      kernel: kernel.bzImage,
      initrd: await guestInitramfs({ modules: ["pvpanic-mmio"], kernel }),
      kind: "auto",
      cmdline: `console=ttyS0 quiet v3m.run="${command}"`,
      unpack: true,
    },
    ...more,
  };
}

async function started(definition: VmDefinition): Promise<ConsoleShell> {
  await world.define(definition);
  await world.backend.start(definition.name);
  return new ConsoleShell(await world.backend.console(definition.name));
}

async function ended(shell: ConsoleShell): Promise<VmStatus> {
  await shell.until(() => shell.ended, "the end").catch(() => {});
  return await world.backend.status("m");
}

const runtime = () => join(world.directory, "run", "m");

describe("a machine under QEMU ends", () => {
  it("by powering off: its console and its state are known afterwards, and events tell", async () => {
    const shell = await started(await machine("echo hello from the guest; sleep 1"));
    const events: VmEvent[] = [];
    const listening = (async () => {
      for await (const event of world.backend.events("m")) events.push(event);
    })();
    expect(await ended(shell)).toMatchObject({ state: "stopped", detail: "the guest powered off" });
    await listening;
    expect(events.map(({ state }) => state)).toEqual(["stopping", "stopped"]);
    await world.backend.cleanUp("m");
    const later = new ConsoleShell(await world.backend.console("m"));
    await later.until(() => later.ended, "the end").catch(() => {});
    expect(later.text).toBe(shell.text);
    expect(later.text).toContain("hello from the guest\r\n");
    await expect(world.backend.pause("m")).rejects.toMatchObject({ code: "E_STATE" });
    expect(readdirSync(runtime()).filter((name) => name.endsWith(".sock"))).toEqual([]);
  });

  it("by a panic of its kernel", async () => {
    const shell = await started(await machine("echo c >/proc/sysrq-trigger"));
    expect(await ended(shell)).toMatchObject({ state: "crashed", detail: "the guest's kernel panicked" });
    expect(shell.text).toContain("Kernel panic");
  });

  it("by a reset, where that is to be its end", async () => {
    const shell = await started(await machine("reboot -f", { onReset: "stop" }));
    expect(await ended(shell)).toMatchObject({ state: "stopped", detail: "the guest reset itself" });
  });

  it("with its supervisor", async () => {
    const shell = await started(await machine("sleep 1000"));
    const { supervisor } = (await readProcess(runtime())) ?? {};
    if (supervisor === undefined) throw new Error("no supervisor");
    process.kill(supervisor.pid, "SIGKILL");
    await ended(shell);
    // Its descriptors are closed, and with them its console, a moment before it is gone.
    while ((await world.backend.status("m")).state === "running") await sleep(10);
    expect(await world.backend.status("m")).toMatchObject({
      state: "crashed",
      detail: expect.stringMatching(/supervise/),
    });
  });

  it("not because somebody gave up waiting for it", async () => {
    const shell = await started(await machine("echo up; sleep 1000"));
    await shell.waitFor(/up/);
    const abort = new AbortController();
    const stopping = world.backend.stop("m", { signal: abort.signal });
    await sleep(500);
    abort.abort();
    await expect(stopping).rejects.toThrow();
    expect((await world.backend.status("m")).state).toBe("running");
  });

  it("by force when it does not listen, after the time that it has", async () => {
    await started(await machine("sleep 1000", { stopTimeoutMs: 300 }));
    await world.backend.stop("m");
    expect(await world.backend.status("m")).toMatchObject({ state: "stopped", detail: "stopped by force" });
  });
});

describe("a start under QEMU fails", () => {
  async function failure(more: Partial<VmDefinition>) {
    await world.define(await machine("true", more));
    const error = await world.backend.start("m").then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(existsSync(runtime())).toBe(false);
    expect((await world.backend.status("m")).state).toBe("stopped");
    return error;
  }

  it("where the kernel is none; the image that was made for it is removed", async () => {
    writeFileSync(world.path("junk"), "this is no kernel");
    const image = world.path("new.img");
    const error = await failure({
      boot: { from: "kernel", kernel: world.path("junk"), kind: "auto", cmdline: "", unpack: true },
      disks: [disk("new", image, { size: MIB })],
    });
    expect(error).toMatchObject({ code: "E_BAD_IMAGE", hint: expect.any(String) });
    expect(existsSync(image)).toBe(false);
  });

  it("where an image is missing, or is of another format", async () => {
    expect(await failure({ disks: [disk("a", world.path("nowhere"))] })).toMatchObject({
      code: "E_IO",
      message: expect.stringContaining("nowhere"),
    });
    writeFileSync(world.path("raw"), Buffer.alloc(MIB));
    expect(await failure({ disks: [disk("a", world.path("raw"), { format: "qcow2" })] })).toMatchObject({
      code: "E_BAD_IMAGE",
    });
  });

  it("where another machine has the image", async () => {
    const disks = [disk("shared", world.path("shared.img"), { size: MIB })];
    await started({ ...(await machine("sleep 1000", { disks })), name: "other" });
    expect(await failure({ disks })).toMatchObject({
      code: "E_BUSY",
      hint: expect.stringContaining("overlay"),
    });
    expect((await world.backend.status("other")).state).toBe("running");
  });

  it("where there is no QEMU, as the probe said", async () => {
    process.env.V3M_QEMU = "qemu-that-is-not-there";
    try {
      expect(await failure({})).toMatchObject({ code: "E_UNSUPPORTED" });
      expect(await world.backend.probe()).toMatchObject({
        usable: false,
        hint: expect.stringContaining("apt install"),
      });
    } finally {
      delete process.env.V3M_QEMU;
    }
  });

  it("where the command is killed at any moment: the machine runs, or nothing is left", async () => {
    const definition = await machine("sleep 1000");
    await world.define(definition);
    const modules = ["backends/qemu/index.js"].map((name) => join(packageRoot(), "dist/src/v3m", name));
    const program = `
      const { qemuBackend } = await import(${JSON.stringify(modules[0])});
      const backend = await qemuBackend.create({
        definition: async () => (${JSON.stringify(definition)}),
        stateDirectory: (name) => ${JSON.stringify(join(world.directory, "state"))} + "/" + name,
        runtimeDirectory: (name) => ${JSON.stringify(join(world.directory, "run"))} + "/" + name,
      });
      console.log("begin");
      await backend.start("m");
      console.log("started");
      setInterval(() => {}, 1000);`;
    const outcomes = new Set<string>();
    for (let i = 0; i < rounds(12, 50); i++) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let output = "";
      child.stdout.on("data", (chunk) => {
        output += String(chunk);
      });
      await new Promise((resolve) => child.stdout.once("data", resolve));
      await sleep(i * 25);
      const gone = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGKILL");
      await gone;
      const record = await readProcess(runtime());
      if (output.includes("started")) {
        expect((await world.backend.status("m")).state).toBe("running");
        outcomes.add("started");
      } else {
        // Either the start was done but for its last words, or the leash pulls.
        await sleep(300);
        const { state } = await world.backend.status("m");
        expect(["running", "stopped", "crashed"]).toContain(state);
        if (record !== undefined && state !== "running") expect(isRunning(record)).toBe(false);
        outcomes.add("killed");
      }
      await world.backend.cleanUp("m");
      expect(record === undefined || !isRunning(record)).toBe(true);
    }
    expect(outcomes.has("killed")).toBe(true);
  });

  it("the console's log gets everything, also what the scroll-back has forgotten", async () => {
    const log = world.path("console.log");
    const shell = await started(
      await machine("for i in $(seq 3000); do echo line $i; done", { console: { scrollback: 4096, log } }),
    );
    await ended(shell);
    const text = readFileSync(log, "latin1");
    expect([...text.matchAll(/^line (\d+)/gm)].map(([, n]) => Number(n))).toEqual(
      Array.from({ length: 3000 }, (_, i) => i + 1),
    );
    expect(shell.text).toBe(text.slice(-shell.text.length));
  });
});
