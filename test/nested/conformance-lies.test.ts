// SPDX-License-Identifier: Apache-2.0
/** The conformance suite itself: a back end that lies about what it can do is found out. */
import { afterEach, describe, expect, it } from "vitest";
import { qemuBackend } from "../../src/v3m/backends/qemu/index.js";
import type { V3mBackend } from "../../src/v3m/registry.js";
import type { Capability as Answer, Feature } from "../../src/vmm/backend.js";
import { CHECKS, checkRefusal, unshown, World } from "../support/conformance/index.js";

const YES: Answer = { supported: "yes" };
const NO: Answer = { supported: "no", reason: "so it says" };

let world: World | undefined;

afterEach(async () => {
  await world?.dispose();
  world = undefined;
});

/** The Qemu back end, but for what is replaced, and for what its matrix says of a feature. */
async function liar(feature: Feature, answer: Answer, replaced: Partial<V3mBackend>): Promise<World> {
  world = await World.create(
    qemuBackend,
    (honest) =>
      new Proxy(honest, {
        get(target, key) {
          if (key === "probe") {
            return async () => {
              const probe = await target.probe();
              return { ...probe, capabilities: { ...probe.capabilities, [feature]: answer } };
            };
          }
          const own = Reflect.get(replaced, key) as unknown;
          const value = own ?? (Reflect.get(target, key) as unknown);
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
  );
  world.network = false;
  return world;
}

/** Of all checks of a feature, how many fail. */
async function failures(feature: Feature, in_: World): Promise<number> {
  const checks = CHECKS.filter((check) => check.feature === feature);
  const results = [];
  for (const check of checks) {
    results.push(
      await check.run(in_).then(
        () => 0,
        () => 1,
      ),
    );
  }
  expect(results.length).toBeGreaterThan(0);
  return results.reduce<number>((sum, failed) => sum + failed, 0);
}

describe("a matrix that lies", () => {
  it.each<Feature>(["migrate"])("yes to %s, which nothing has shown", async (feature) => {
    expect(unshown((await liar(feature, YES, {})).matrix)).toContain(feature);
  });

  it("yes to images, and makes none", async () => {
    const lying = await liar("image", YES, { createImage: async () => {} });
    expect(await failures("image", lying)).toBe(1);
  });

  it("yes to pause, as in 2007: it reports success and does nothing", async () => {
    const lying = await liar("pause", YES, { pause: async () => {}, resume: async () => {} });
    await lying.guest();
    expect(await failures("pause", lying)).toBe(1);
  });

  it("yes to pause, and says that it is paused while the guest runs on", async () => {
    let paused = false;
    const lying = await liar("pause", YES, {
      pause: async () => {
        paused = true;
      },
      resume: async () => {
        paused = false;
      },
      status: async () => ({ state: paused ? "paused" : "running", pid: process.pid }),
    });
    await lying.guest();
    expect(await failures("pause", lying)).toBe(1);
  });

  it.each<Feature>(["pause", "reset", "stats", "image", "disks", "nic:TUN/TAP", "hugepages"])(
    "no to %s, and does it, or fails in another way",
    async (feature) => {
      await expect(checkRefusal(feature, await liar(feature, NO, {}))).rejects.toThrow();
    },
  );

  it("no to snapshots, with the right error, and leaves something behind", async () => {
    const lying: World = await liar("snapshot", NO, {
      snapshot: async (_name, directory) => {
        const { mkdir } = await import("node:fs/promises");
        await mkdir(directory);
        const { UnsupportedError } = await import("../../src/v3m/errors.js");
        throw new UnsupportedError("Qemu", "snapshot", "not really");
      },
    });
    await expect(checkRefusal("snapshot", lying)).rejects.toThrow();
  });

  it("is told apart from one that does not", async () => {
    world = await World.create(qemuBackend);
    expect(unshown(world.matrix)).toEqual([]);
    await checkRefusal("migrate", world);
    expect(await failures("image", world)).toBe(0);
  });
});
