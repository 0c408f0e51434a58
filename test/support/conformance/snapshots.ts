// SPDX-License-Identifier: Apache-2.0
/** Checks of snapshots: a machine of its own, with a disk where there are any. */
import { existsSync, writeFileSync } from "node:fs";
import { expect } from "vitest";
import type { VmDefinition } from "../../../src/v3m/definition/types.js";
import type { Check } from "./check.js";
import { ConsoleShell } from "./shell.js";
import { disk, MIB, PLAIN, type World } from "./world.js";

const NAME = "kept";
/** A job that takes a while, and what comes out of it. */
const JOB =
  "(i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done | md5sum | cut -c1-32 >/tmp/sum; touch /tmp/done) & ";
const SUM = "while [ ! -e /tmp/done ]; do sleep 0.1; done; cat /tmp/sum";

const directory = (world: World) => world.path("snapshot");

async function definition(world: World): Promise<VmDefinition> {
  const disks = world.can("disks") ? [disk("disk0", world.path("kept.img"), { size: 4 * MIB })] : [];
  return {
    ...PLAIN,
    name: NAME,
    type: world.backend.type,
    boot: await world.linux(["virtio_blk"]),
    disks,
  };
}

const write = (world: World, text: string) =>
  world.can("disks") ? `echo ${text} | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null` : "true";
const read = (world: World) =>
  world.can("disks") ? "echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/vda" : "echo then";

/** Boot it, save it at work, and let it go on; it has ended when this returns. @returns what the job gave */
async function keep(world: World): Promise<string> {
  const { backend } = world;
  const wanted = await definition(world);
  await world.define(wanted);
  const { shell } = await world.started(wanted);
  const again = await shell.sh(`${JOB}\n${SUM}`);
  await shell.sh(`rm /tmp/done; ${write(world, "then")}`);
  await shell.sh(JOB);
  await backend.snapshot(NAME, directory(world));
  expect((await backend.status(NAME)).state).toBe("running");
  expect(await shell.sh(SUM)).toBe(again);
  await shell.sh(write(world, "later"));
  await backend.pause(NAME);
  const paused = world.path("snapshot-paused");
  await backend.snapshot(NAME, paused);
  expect((await backend.status(NAME)).state).toBe("paused");
  await backend.resume(NAME);
  expect(await shell.sh("echo on")).toBe("on");
  await backend.stop(NAME, { force: true });
  shell.stream.destroy();
  return again;
}

const kept = new WeakMap<World, Promise<string>>();
function keepOnce(world: World): Promise<string> {
  const found = kept.get(world) ?? keep(world);
  kept.set(world, found);
  return found;
}

export const SNAPSHOTS: readonly Check[] = [
  {
    feature: "snapshot",
    name: "a machine at work is kept, and goes on",
    async run(world) {
      await keepOnce(world);
      expect(existsSync(directory(world))).toBe(true);
    },
  },
  {
    feature: "restore",
    name: "the machine goes on where it was, with the disk that it had, as often as one likes",
    async run(world) {
      const { backend } = world;
      const sum = await keepOnce(world);
      for (let i = 0; i < 2; i++) {
        await backend.restore(NAME, directory(world));
        expect((await backend.status(NAME)).state).toBe("running");
        const shell = new ConsoleShell(await backend.console(NAME));
        expect(await shell.sh(SUM)).toBe(sum);
        expect(await shell.sh(read(world))).toBe("then");
        await shell.sh(write(world, "lost"));
        await backend.stop(NAME, { force: true });
        shell.stream.destroy();
      }
    },
  },
  {
    feature: "restore",
    name: "what is no snapshot is refused, and nothing is left",
    async run(world) {
      await keepOnce(world);
      const nothing = world.path("no-snapshot");
      writeFileSync(nothing, "");
      await expect(world.backend.restore(NAME, nothing)).rejects.toMatchObject({ code: "E_IO" });
      expect((await world.backend.status(NAME)).state).toBe("stopped");
      await world.undefine(NAME);
    },
  },
];
