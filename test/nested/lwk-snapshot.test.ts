// SPDX-License-Identifier: Apache-2.0
/** The lightweight kernel is saved, and cloned, in the middle of an OpenMP program, and the program ends as if nothing had been. */
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import * as native from "../../src/ffi/machine.js";
import * as snapshots from "../../src/ffi/snapshot.js";
import { ForkPoint } from "../../src/vmm/fork.js";
import { nativeBoot, nativeConfig } from "../../src/vmm/options.js";
import { readApplication } from "../../src/yod/application.js";
import { planLaunch } from "../../src/yod/launch-options.js";
import { End } from "../../src/yod/layouts.js";
import { YodServer } from "../../src/yod/server.js";
import { suite } from "../support/capabilities.js";
import { program } from "../support/yod.js";

const PATIENCE = 600_000;

suite("an OpenMP program on the lightweight kernel", { needs: ["lwk"] }, () => {
  let work: string;
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), "v3m-lwk-snapshot-"));
  });
  afterAll(() => rmSync(work, { recursive: true, force: true }));

  /** A machine with its server, its output in a file. */
  async function make(output: string) {
    const app = await readApplication(program("heat.glibc"), work);
    const [input, out] = [openSync("/dev/null", "r"), openSync(join(work, output), "w")];
    const plan = planLaunch(
      {
        app: program("heat.glibc"),
        args: ["200", "400"],
        cpus: 4,
        memory: 64 << 20,
        cwd: work,
        env: {},
        stdio: [input, out, out],
      },
      app,
    );
    const vm = native.create(nativeConfig(plan.machine));
    const server = YodServer.attach(vm, plan.server);
    const load = () => native.load(vm, nativeBoot(plan.machine, plan.machine.kernel));
    const end = async () => {
      native.stop(vm);
      await native.waitAsync(vm);
      await server.dispose();
      await native.destroyAsync(vm);
      return readFileSync(join(work, output), "latin1");
    };
    return { vm, server, load, end };
  }

  async function whole(): Promise<string> {
    const run = await make("whole");
    run.load();
    native.start(run.vm);
    await native.waitAsync(run.vm);
    expect(run.server.report()).toMatchObject({ end: End.EXIT, status: 0 });
    return await run.end();
  }

  it(
    "goes on in another machine, and comes to the same result",
    async () => {
      const expected = await whole();
      expect(expected).not.toBe("");
      const first = await make("first");
      first.load();
      native.start(first.vm);
      while (first.server.queue === undefined || first.server.stats().app_ns === 0n) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
      await native.pauseAsync(first.vm);
      const { queue } = first.server;
      await snapshots.saveAsync(first.vm, join(work, "snapshot"), Buffer.from(String(queue)));
      expect(first.server.report()).toBeUndefined(); // it was at work
      const before = await first.end();
      expect(expected.startsWith(before)).toBe(true);
      expect(before.length).toBeLessThan(expected.length);

      const second = await make("second");
      await snapshots.restoreAsync(second.vm, join(work, "snapshot"), 0);
      second.load();
      expect(() => second.server.adopt(0n)).toThrow(/no queue/);
      second.server.adopt(BigInt(snapshots.read(join(work, "snapshot")).note.toString()));
      native.start(second.vm);
      await native.waitAsync(second.vm);
      expect(second.server.report()).toMatchObject({ end: End.EXIT, status: 0 });
      expect(before + (await second.end())).toBe(expected);
    },
    PATIENCE,
  );

  it(
    "goes on in two clones and in the first machine, each to the same result",
    async () => {
      const expected = await whole();
      const first = await make("forked");
      first.load();
      native.start(first.vm);
      while (first.server.queue === undefined || first.server.stats().app_ns === 0n) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
      await native.pauseAsync(first.vm);
      const { queue } = first.server;
      const state = await snapshots.takeAsync(first.vm);
      using _point = new ForkPoint(state);
      const before = readFileSync(join(work, "forked"), "latin1");
      expect(first.server.report()).toBeUndefined(); // it was at work
      native.resume(first.vm);
      for (const name of ["clone-1", "clone-2"]) {
        const clone = await make(name);
        await snapshots.cloneAsync(clone.vm, state, name);
        clone.load();
        clone.server.adopt(queue ?? 0n);
        native.start(clone.vm);
        await native.waitAsync(clone.vm);
        expect(clone.server.report()).toMatchObject({ end: End.EXIT, status: 0 });
        expect(before + (await clone.end())).toBe(expected);
      }
      await native.waitAsync(first.vm);
      expect(first.server.report()).toMatchObject({ end: End.EXIT, status: 0 });
      expect(await first.end()).toBe(expected);
    },
    PATIENCE,
  );
});
