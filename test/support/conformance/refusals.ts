// SPDX-License-Identifier: Apache-2.0
/** For each "no" of a matrix: ask for it nevertheless. The typed error must come, and nothing may change. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { VmDefinition } from "../../../src/v3m/definition/types.js";
import type { UnsupportedError } from "../../../src/v3m/errors.js";
import type { Feature } from "../../../src/vmm/backend.js";
import { disk, MIB, PLAIN, type World } from "./world.js";

const NAME = "refused";

/** A definition that asks for a feature, on top of PLAIN. */
function asking(feature: Feature, world: World): Partial<VmDefinition> | undefined {
  const tap = { id: "nic1", mac: "52:54:00:c0:00:09", tap: "v3mrefused", vhost: false };
  const range = { network: "10.77.0.0", prefix: 30, host: "10.77.0.1", guest: "10.77.0.2" };
  const image = world.path("refused.img");
  switch (feature) {
    case "boot:kernel":
      return {};
    case "boot:disk":
      return { boot: { from: "disk", cmdline: "" }, disks: [disk("disk0", image)] };
    case "boot:cdrom":
      return { boot: { from: "cdrom" }, cdrom: image };
    case "topology":
      return { cpus: 2, topology: { sockets: 1, coresPerSocket: 2, threadsPerCore: 1 } };
    case "pin":
      return { pin: [0] };
    case "hugepages":
      return { memory: { bytes: 64 * MIB, backing: "huge-2M", prefault: false } };
    case "io-pin":
      return { performance: { ioPin: [0] } };
    case "realtime":
      return { performance: { realtime: { io: 1 } } };
    case "without-exits":
      return { pin: [0], performance: { withoutExits: ["halt"] } };
    case "numa":
      return { performance: { numa: [{ cpus: [0], bytes: PLAIN.memory.bytes, distances: [] }] } };
    case "cache-cores":
      return { performance: { cacheCores: 1 } };
    case "disks":
      return { disks: [disk("disk0", image)] };
    case "disk:qcow2":
      return { disks: [disk("disk0", image, { format: "qcow2" })] };
    case "disk:overlay":
      return { disks: [disk("disk0", image, { overlay: "temporary" })] };
    case "cdrom":
      return { cdrom: image };
    case "nic:TUN/TAP":
      return { nics: [{ type: "TUN/TAP", ...tap }] };
    case "nic:TUN/TAP+NAT":
      return { nics: [{ type: "TUN/TAP+NAT", ...tap, range }] };
    case "nic:BRIDGED_TAP":
      return { nics: [{ type: "BRIDGED_TAP", ...tap, bridge: "br0" }] };
    case "nic:VLAN":
      return { nics: [{ type: "VLAN", ...tap, parent: "eth0", vlan: 7 }] };
    case "nic:user":
      return { nics: [{ type: "user", id: "nic1", mac: tap.mac, forward: [] }] };
    case "nic:vhost":
      return { nics: [{ type: "TUN/TAP", ...tap, vhost: true }] };
    case "pmem":
      return { pmem: [{ path: image, readOnly: false }] };
    case "shm":
      return { shm: [{ channel: "conformance", peer: 0, peers: 2, size: MIB, common: 0, visibleTo: "all" }] };
    case "vfio":
      return { vfio: [{ device: "0000:00:1f.7" }] };
    case "rng":
      return { rng: true };
    case "balloon":
      return { balloon: true };
    case "vsock":
      return { vsock: 4712 };
    case "generation-id":
      return { generationId: "random" };
    case "modules":
      return { modules: [{ name: "module", path: image, atStart: true }] };
    default:
      return undefined;
  }
}

/** How a verb is asked for; undefined where the interface has none for it. */
function verb(feature: Feature, world: World): (() => Promise<unknown>)[] | undefined {
  const { backend } = world;
  const machine = { ...PLAIN, name: NAME, type: backend.type };
  const image = { to: world.path("refused-image"), format: "raw", size: MIB } as const;
  const from = world.path("refused.iso");
  switch (feature) {
    case "start":
      return [() => backend.start(NAME)];
    case "stop":
      return [() => backend.stop(NAME), () => backend.stop(NAME, { force: true })];
    case "reset":
      return [() => backend.reset(NAME)];
    case "pause":
      return [() => backend.pause(NAME), () => backend.resume(NAME)];
    case "status":
      return [() => backend.status(NAME)];
    case "console":
      return [() => backend.console(NAME)];
    case "stats":
      return [() => backend.stats(NAME)];
    case "events":
      return [async () => await backend.events(NAME)[Symbol.asyncIterator]().next()];
    case "image":
      return [() => backend.createImage({ kind: "empty", ...image })];
    case "image-from-cdrom":
      return [() => backend.createImage({ kind: "cdrom", from, machine, ...image })];
    case "image-from-packages":
      return [() => backend.createImage({ kind: "packages", from: "base", ...image })];
    case "snapshot":
      return [() => backend.snapshot(NAME, world.path("refused-snapshot"))];
    case "restore":
      return [() => backend.restore(NAME, world.path("refused-snapshot"))];
    case "fork":
      return [() => backend.fork(NAME, ["refused-1"])];
    case "migrate":
      return [() => backend.migrate(NAME, "elsewhere")];
    default:
      return undefined;
  }
}

/** Every file below the world's directory, with its size and the time of its last change. */
function everything(world: World): string[] {
  return (readdirSync(world.directory, { recursive: true }) as string[]).sort().map((name) => {
    const { size, mtimeMs } = statSync(join(world.directory, name));
    return `${name} ${size} ${mtimeMs}`;
  });
}

async function mustRefuse(world: World, ask: () => Promise<unknown>): Promise<void> {
  const before = everything(world);
  const answer = await ask().then(
    () => "it was done",
    (error: unknown) => error,
  );
  expect(answer).toMatchObject({ name: "UnsupportedError", code: "E_UNSUPPORTED" });
  // Where several things are asked for that the matrix says no to, it may name any of them.
  const { feature } = answer as UnsupportedError;
  expect(world.matrix[feature], feature).toMatchObject({ supported: "no" });
  expect(everything(world)).toEqual(before);
}

/** @throws where a "no" is none */
export async function checkRefusal(feature: Feature, world: World): Promise<void> {
  const more = asking(feature, world);
  if (more !== undefined) {
    const definition = { ...PLAIN, name: NAME, type: world.backend.type, ...more };
    await mustRefuse(world, () => world.define(definition));
    return;
  }
  // On a VM that is defined, where that can be done at all.
  await world.define({ ...PLAIN, name: NAME, type: world.backend.type }).catch(() => {});
  for (const ask of verb(feature, world) ?? []) await mustRefuse(world, ask);
}
