// SPDX-License-Identifier: Apache-2.0
/** How `v2m run` ends, with tiny guests: exit codes, signals, pipes, the terminal and its escape key. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { LOAD_ADDRESS, payload } from "../support/payloads.js";
import { Observed, payloadArgs, start, V2M, v2m } from "../support/v2m.js";

suite("v2m run ends", { needs: ["kvm"] }, () => {
  it("with 0 when the guest powers off; its console is standard output", async () => {
    const outcome = await v2m("run", ...payloadArgs("hello"));
    expect(outcome).toMatchObject({ code: 0, stderr: "" });
    expect(outcome.stdout).toBe("Hello from V3M in 64-bit mode\nhello: ok\n");
  });

  it("with a module, that the guest calls; with 5 where there is none, or it refuses", async () => {
    for (const module of ["native/build/release/tally.so", "dist/examples/tally.js"]) {
      const outcome = await v2m("run", ...payloadArgs("hypercall"), "--module", `${module},port=0x510`);
      expect(outcome).toMatchObject({ code: 0, stderr: "" });
      expect(outcome.stdout).toContain("hypercall: rounds 100 device 100 answers 200 unknown 0 failed 0\n");
    }
    const refused = await v2m(
      "run",
      ...payloadArgs("hypercall"),
      "--module",
      "dist/examples/tally.js,speed=1",
    );
    expect(refused).toMatchObject({ code: 5, stdout: "" });
    expect(refused.stderr).toBe(
      "v2m: dist/examples/tally.js: the only argument is port=N [E_MODULE]\nhint: the module refused: see its documentation\n",
    );
    const none = await v2m("run", ...payloadArgs("hypercall"), "--module", "./nowhere.so");
    expect(none).toMatchObject({ code: 5, stdout: "" });
    expect(none.stderr).toMatch(/^v2m: cannot open module .*nowhere.so: No such file or directory \[E_IO\]/);
  });

  it("with 7 when it resets, with --no-reboot", async () => {
    expect(await v2m("run", ...payloadArgs("reset"), "--no-reboot")).toMatchObject({ code: 7, stderr: "" });
  });

  it("with 124 and a message when --timeout elapses, also of a guest that reboots for ever", async () => {
    for (const payload of ["busy", "reset"] as const) {
      const outcome = await v2m("run", ...payloadArgs(payload), "--timeout", "2");
      expect(outcome.code).toBe(124);
      expect(outcome.stderr).toMatch(/\[E_TIMEOUT\]\nhint: /);
    }
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("by %s, with %i", async (signal, code) => {
    const run = start("run", ...payloadArgs("busy"));
    await run.saw("busy: ready");
    run.child.kill(signal);
    expect(await run.outcome).toMatchObject({ code, signal: null });
  });

  it("with 141 when nobody reads its output any more", async () => {
    const command = [...V2M, "run", ...payloadArgs("reset")].map((word) => `'${word}'`).join(" ");
    const { outcome, child } = new Observed(["bash", "-c", `${command} | head -n 1; echo \${PIPESTATUS[*]}`]);
    child.stdin?.end();
    expect(await outcome).toMatchObject({ stdout: "reset: method 0\n141 0\n", stderr: "" });
  });

  it("when standard input ends nothing happens; what was typed arrives, byte by byte", async () => {
    const run = start("run", ...payloadArgs("echo"));
    await run.saw("echo: ready");
    run.type("typed \x01x into a pipe, where no byte is an escape key\x04");
    run.child.stdin?.end();
    const outcome = await run.outcome;
    expect(outcome.code).toBe(0);
    expect(outcome.stdout).toContain("typed \x01x into a pipe, where no byte is an escape key");
  });
});

suite("v2m run and a guest that crashes", { needs: ["triple-fault"] }, () => {
  it("ends with 3, and shows what is left of registers and code", async () => {
    const outcome = await v2m("run", ...payloadArgs("triple"));
    expect(outcome.code).toBe(3);
    expect(outcome.stdout).toBe("triple: now\n");
    expect(outcome.stderr).toMatch(/^v2m: the guest crashed: .*triple fault/);
    // On AMD, KVM resets the vCPU before it tells.
    if (!outcome.stderr.includes("its registers are lost")) {
      expect(outcome.stderr).toMatch(/ rip +[0-9a-f]{16} /);
      expect(outcome.stderr).toMatch(/ code +([0-9a-f]{2} ){8}/);
    }
  });
});

suite("v2m run reports", { needs: ["kvm"] }, () => {
  it("--stats: times, exits and memory, on standard error", async () => {
    const outcome = await v2m("run", ...payloadArgs("hello"), "--stats", "--ready", "64-bit");
    expect(outcome.code).toBe(0);
    for (const text of ["first KVM_RUN to ready", "memory beside guest RAM", "guest-caused exits", "io"]) {
      expect(outcome.stderr).toContain(text);
    }
  });

  it("--json: one line", async () => {
    const outcome = await v2m("run", ...payloadArgs("hello"), "--json");
    expect(outcome.stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(JSON.parse(outcome.stderr)).toMatchObject({
      state: "stopped",
      cause: "poweroff",
      exitCode: 0,
      console: { out: outcome.stdout.length, dropped: 0, in: 0 },
      exits: expect.arrayContaining([expect.objectContaining({ reason: "io" })]),
    });
  });

  it("--json: how and where it ended", async () => {
    const { code, stderr } = await v2m("run", ...payloadArgs("hello"), "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stderr)).toMatchObject({ state: "stopped", cause: "poweroff", exitCode: 0 });
  });
});

suite("v2m run on a terminal", { needs: ["kvm"] }, () => {
  /** Under script(1), which gives it a terminal and passes on its exit code. */
  function onTerminal(...args: readonly string[]): Observed {
    const command = [...V2M, "run", ...args].map((word) => `'${word}'`).join(" ");
    return new Observed(["script", "-q", "-e", "-c", command, "/dev/null"]);
  }

  it("Ctrl-A x stops the machine, with 0", async () => {
    const run = onTerminal(...payloadArgs("busy"));
    await run.saw("busy: ready");
    run.type("\x01x");
    expect((await run.outcome).code).toBe(0);
  });

  it("Ctrl-C goes to the guest, Ctrl-A Ctrl-A is one Ctrl-A", async () => {
    const run = onTerminal(...payloadArgs("echo"));
    await run.saw("echo: ready");
    run.type("a\x03b\x01\x01c\x04");
    const outcome = await run.outcome;
    expect(outcome.code).toBe(0);
    expect(outcome.stdout).toContain("a\x03b\x01c");
  });

  it("Ctrl-A h helps, p pauses and resumes, s counts", async () => {
    const run = onTerminal(...payloadArgs("echo"));
    await run.saw("echo: ready");
    run.type("\x01h");
    await run.saw("stop the machine");
    run.type("\x01p");
    await run.saw("paused: Ctrl-A p resumes");
    run.type("\x01s");
    await run.saw("guest-caused exits");
    run.type("\x01p");
    await run.saw("resumed");
    run.type("alive\x04");
    const outcome = await run.outcome;
    expect(outcome.code).toBe(0);
    expect(outcome.stdout).toContain("alive");
  });

  it("Ctrl-A r resets the machine", async () => {
    const run = onTerminal(...payloadArgs("busy"));
    await run.saw("busy: ready");
    run.type("\x01r");
    await run.saw(/busy: ready[\s\S]*busy: ready/);
    run.type("\x01x");
    expect((await run.outcome).code).toBe(0);
  });
});

suite("v2m run in a channel", { needs: ["kvm"] }, () => {
  let work: string;
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), "v3m-run-shm-"));
  });
  afterAll(() => rmSync(work, { recursive: true, force: true }));

  /** A guest that talks with the other one of two. */
  function peer(id: number): Observed {
    const kernel = join(work, `peer${id}`);
    const partner = 1 - id;
    writeFileSync(kernel, payload("peers", { partners: 1 << partner, name: id + 1 }).kernel);
    const guest = ["--kernel", kernel, "--kind", "flat64", "--load-address", String(LOAD_ADDRESS.flat64)];
    const place = `channel=pair,peer=${id},peers=2,size=64K,visible-to=${partner}`;
    return new Observed([...V2M, "run", ...guest, "--memory", "16M", "--shm", place], {
      V3M_RUNTIME_DIR: join(work, "run"),
    });
  }

  it("meets another machine in it; a place that is taken is refused with 1", async () => {
    const both = [peer(0), peer(1)] as const;
    try {
      for (const [id, run] of both.entries()) {
        await run.saw("peers: here\n");
        const heard = new RegExp(` ${1 - id}=f[1-9]`);
        for (let reports = 1; !heard.test(run.stdout); reports++) {
          run.type("?");
          await run.saw(new RegExp(`(peers: leaks[^\n]+\n){${reports}}`));
        }
      }
      expect(await peer(0).outcome).toMatchObject({
        code: 1,
        stderr: "v2m: peer 0 is there already [E_STATE]\n",
      });
      for (const run of both) {
        run.type("q");
        expect(await run.outcome).toMatchObject({ code: 0, stderr: "" });
      }
    } finally {
      for (const run of both) run.child.kill("SIGKILL");
    }
  });
});
