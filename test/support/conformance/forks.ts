// SPDX-License-Identifier: Apache-2.0
/** Checks of forks: a machine of its own at work, with a disk and a network where there are any, and three clones of it. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { packageRoot } from "../../../src/package-root.js";
import { cloneDefinition, clonePath } from "../../../src/v3m/clone.js";
import type { VmDefinition } from "../../../src/v3m/definition/types.js";
import type { Check } from "./check.js";
import { ConsoleShell } from "./shell.js";
import { disk, MIB, PLAIN, type World } from "./world.js";

const NAME = "forked";
const CLONES = ["forked-1", "forked-2", "forked-3"];
const AGENT = join(packageRoot(), "examples/take-up-identity.sh");
/** A job that takes a while, and what comes out of it. */
const JOB =
  "(i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done | md5sum | cut -c1-32 >/tmp/sum; touch /tmp/done) & ";
const SUM = "while [ ! -e /tmp/done ]; do sleep 0.1; done; cat /tmp/sum";
/** A connection that is open all the time, to the guest itself: what the clones have, too. */
const CONNECT =
  "mkfifo /tmp/pipe; (sleep 10000 | nc -l -p 7 >/tmp/received) & (nc 127.0.0.1 7 </tmp/pipe) & sleep 10000 >/tmp/pipe & sleep 1";
const said = (text: string) =>
  `echo ${text} >/tmp/pipe; until grep -q ${text} /tmp/received; do sleep 0.1; done; cat /tmp/received`;

async function definition(world: World): Promise<VmDefinition> {
  const nic = { type: "user", id: "nic1", mac: "52:54:00:c0:00:11", forward: [] } as const;
  return {
    ...PLAIN,
    name: NAME,
    type: world.backend.type,
    boot: await world.linux(["virtio_blk", "virtio_net"]),
    disks: world.can("disks") ? [disk("disk0", world.path("forked.img"), { size: 4 * MIB })] : [],
    nics: world.network && world.can("nic:user", "private-net") ? [nic] : [],
    ...(world.can("generation-id") ? { generationId: "random" } : {}),
  };
}

const write = (world: World, text: string) =>
  world.can("disks") ? `echo ${text} | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null` : "true";
const read = (world: World, text: string) =>
  world.can("disks") ? "echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/vda" : `echo ${text}`;

/** The clones as the front end would define them. */
async function defineClones(world: World, from: VmDefinition): Promise<VmDefinition[]> {
  return await Promise.all(
    CLONES.map(async (name) => {
      const directory = world.stateDirectory(name);
      const clone = cloneDefinition(
        from,
        { name, uuid: randomUUID(), directory, from: world.stateDirectory(NAME) },
        [],
      );
      await world.define(clone);
      return clone;
    }),
  );
}

/** What a clone says of itself, once it has taken up what it is. */
async function checkClone(world: World, clone: VmDefinition, sum: string): Promise<string> {
  const shell = new ConsoleShell(await world.backend.console(clone.name));
  try {
    await shell.sh(`until [ "$(cat /tmp/name 2>/dev/null)" = ${clone.name} ]; do sleep 0.1; done`);
    expect(await shell.sh("hostname")).toBe(clone.name);
    for (const [index, { mac }] of clone.nics.entries()) {
      expect(await shell.sh(`cat /sys/class/net/eth${index}/address`)).toBe(mac);
      await shell.sh(`ip link set eth${index} up; grep -q 1 /sys/class/net/eth${index}/carrier`);
    }
    expect(await shell.sh(SUM)).toBe(sum);
    expect(await shell.sh(said(clone.name))).toBe(`before\n${clone.name}`);
    expect(await shell.sh(read(world, "then"))).toBe("then");
    await shell.sh(write(world, clone.name));
    expect(await shell.sh(read(world, clone.name))).toBe(clone.name);
    return await shell.sh("dd if=/dev/mem bs=16 skip=61440 count=1 2>/dev/null | md5sum");
  } finally {
    shell.stream.destroy();
  }
}

export const FORKS: readonly Check[] = [
  {
    feature: "fork",
    name: "three clones go on where the machine was, each with a name, an address and disks of its own; so does the machine",
    async run(world) {
      const { backend } = world;
      const wanted = await definition(world);
      await world.define(wanted);
      const { shell } = await world.started(wanted);
      const sum = await shell.sh(`${JOB}\n${SUM}`);
      await shell.sh(`rm /tmp/done; hostname first; ${write(world, "then")}`);
      await shell.sh(`cat >/tmp/agent <<'END'\n${readFileSync(AGENT, "utf8")}END`);
      await shell.sh(CONNECT);
      await shell.sh(said("before"));
      await shell.sh(`echo 'echo $1 >/tmp/name' >/tmp/then; sh /tmp/agent 1 sh /tmp/then >/tmp/log 2>&1 & `);
      await shell.sh("sleep 2");
      const mac = wanted.nics.length > 0 ? await shell.sh("cat /sys/class/net/eth0/address") : "";
      await shell.sh(JOB);
      const clones = await defineClones(world, wanted);
      await backend.fork(NAME, CLONES);
      expect((await backend.status(NAME)).state).toBe("running");
      await shell.sh(write(world, "later"));
      const generations: string[] = [];
      for (const clone of clones) generations.push(await checkClone(world, clone, sum));
      expect(await shell.sh(SUM)).toBe(sum);
      expect(await shell.sh(said("after"))).toBe("before\nafter");
      expect(await shell.sh(read(world, "later"))).toBe("later");
      expect(await shell.sh("hostname")).toBe("first");
      if (mac !== "") expect(await shell.sh("cat /sys/class/net/eth0/address")).toBe(mac);
      generations.push(await shell.sh("dd if=/dev/mem bs=16 skip=61440 count=1 2>/dev/null | md5sum"));
      if (world.can("generation-id")) expect(new Set(generations).size).toBe(CLONES.length + 1);
      for (const name of CLONES) {
        await backend.stop(name, { force: true });
        await world.undefine(name);
      }
      shell.stream.destroy();
    },
  },
  {
    feature: "fork",
    name: "where one clone cannot be made there is none, and the machine goes on",
    async run(world) {
      const { backend } = world;
      const clones = await defineClones(world, await definition(world));
      const [last] = clones.slice(-1);
      if (last === undefined) throw new Error("no clones");
      await world.define({ ...last, cpus: 2 }); // no such machine was saved
      await expect(backend.fork(NAME, CLONES)).rejects.toMatchObject({ code: "E_INVALID" });
      for (const name of CLONES) {
        expect((await backend.status(name)).state).toBe("stopped");
        expect(() => readFileSync(clonePath(world.stateDirectory(name), "disk0"))).toThrow(/ENOENT/);
        await world.undefine(name);
      }
      expect((await backend.status(NAME)).state).toBe("running");
      await backend.stop(NAME, { force: true });
      await world.undefine(NAME);
    },
  },
];
