// SPDX-License-Identifier: Apache-2.0
/**
 * The conformance suite: what a back end's matrix says yes to is done for real, with a Linux guest; what it says no
 * to must give the typed error and change nothing. A matrix that lies either way fails.
 *
 *     await conformance(factory, { needs: ["linux-guest"] });      // at the top of a test file
 *
 * Tests are called `TYPE > FEATURE: what`; scripts/feature-table makes the README's table of their results.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { V3mBackendFactory } from "../../../src/v3m/registry.js";
import { type CapabilityMatrix, FEATURES, type Feature } from "../../../src/vmm/backend.js";
import { type Capability, missing, suite } from "../capabilities.js";
import { BOOTS } from "./boots.js";
import type { Check } from "./check.js";
import { DEVICES } from "./devices.js";
import { FORKS } from "./forks.js";
import { IMAGES } from "./images.js";
import { networkState, setUpNetwork, tearDownNetwork } from "./network.js";
import { NICS } from "./nics.js";
import { checkRefusal } from "./refusals.js";
import { SNAPSHOTS } from "./snapshots.js";
import { ENDINGS, VERBS } from "./verbs.js";
import { World } from "./world.js";

export type { Check } from "./check.js";
export { checkRefusal } from "./refusals.js";
export { World } from "./world.js";

/** In the order in which they run: those of the shared guest, its end, machines of their own. */
export const CHECKS: readonly Check[] = [
  ...DEVICES,
  ...NICS,
  ...VERBS,
  ...ENDINGS,
  ...SNAPSHOTS,
  ...FORKS,
  ...BOOTS,
  ...IMAGES,
];

const saysNo = (matrix: CapabilityMatrix, feature: Feature) => matrix[feature].supported === "no";

/** Features with a yes that nothing here exercises: nobody has shown them. */
export function unshown(matrix: CapabilityMatrix): Feature[] {
  return FEATURES.filter(
    (feature) => !saysNo(matrix, feature) && !CHECKS.some((check) => check.feature === feature),
  );
}

export interface ConformanceOptions {
  /** What the back end needs to run machines. */
  readonly needs: readonly Capability[];
  /** See World.lean. */
  readonly lean?: boolean;
}

/** Define the tests of a back end. */
export async function conformance(factory: V3mBackendFactory, options: ConformanceOptions): Promise<void> {
  const world = await World.create(factory);
  world.lean = options.lean ?? false;
  const { matrix } = world;
  describe(factory.type, () => {
    let before = "";
    const network = missing("private-net") === undefined;
    beforeAll(() => {
      if (!network) return;
      setUpNetwork(missing("8021q") === undefined);
      before = networkState();
    });
    afterAll(async () => {
      await world.dispose();
      if (network) tearDownNetwork();
    });
    for (const check of CHECKS.filter(({ feature }) => !saysNo(matrix, feature))) {
      const needs = [...(check.machineless ? [] : options.needs), ...(check.needs ?? [])];
      suite(check.feature, { needs }, () => {
        it(check.name, () => check.run(world));
      });
    }
    for (const feature of FEATURES.filter((one) => saysNo(matrix, one))) {
      suite(feature, { needs: [] }, () => {
        it("is refused with the typed error, and nothing changes", () => checkRefusal(feature, world));
      });
    }
    suite("matrix", { needs: [] }, () => {
      it("promises nothing that no check exercises", () => expect(unshown(matrix)).toEqual([]));
    });
    suite("host", { needs: ["private-net"] }, () => {
      it("has nothing left of the machines", async () => {
        await world.dispose();
        expect(networkState()).toBe(before);
      });
    });
  });
}
