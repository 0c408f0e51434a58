// SPDX-License-Identifier: Apache-2.0
/** The guests of a plan, made ready once for all of its measurements. */

import { pathRefusal } from "./availability.js";
import type { Contender, Offer } from "./contender.js";
import type { LinuxPair as LinuxPairType } from "./linux.js";
import type { PathName } from "./names.js";
import { payloadPath } from "./payload.js";
import type { Plan } from "./plan.js";
import { perftestName } from "./rdma-files.js";
import type { GuestFacts } from "./result.js";
import { functionsOf } from "./vfio.js";

export interface Places extends AsyncDisposable {
  readonly offers: readonly Offer[];
  readonly guests: GuestFacts;
}

const NOTHING_LEFT = () => Promise.resolve();

function offersOf(
  plan: Plan,
  refused: ReadonlyMap<PathName, string>,
  make: (path: PathName) => Contender,
): Offer[] {
  return plan.paths.map((path) => {
    const why = refused.get(path);
    return why === undefined ? { contender: make(path) } : { id: path, skipped: why };
  });
}

/** Boot what has to be booted. @param say is told what goes on */
export async function openPlaces(plan: Plan, say: (text: string) => void): Promise<Places> {
  const refused = new Map<PathName, string>();
  for (const path of plan.paths) {
    const why = await pathRefusal(path, plan);
    if (why !== undefined) refused.set(path, why);
  }
  const able = plan.paths.filter((path) => !refused.has(path));
  if (plan.guests === "payload" || able.length === 0) {
    return {
      offers: offersOf(plan, refused, payloadPath),
      guests: { kind: plan.guests, vcpus: 1, memoryMiB: 16, kernel: null },
      [Symbol.asyncDispose]: NOTHING_LEFT,
    };
  }
  if (plan.guests === "lwk") {
    const { lwkPath, MEMORY_MIB } = await import("./lwk.js");
    return {
      offers: offersOf(plan, refused, lwkPath),
      guests: { kind: "lwk", vcpus: 1, memoryMiB: MEMORY_MIB, kernel: null },
      [Symbol.asyncDispose]: NOTHING_LEFT,
    };
  }
  return await linuxPlaces(plan, refused, able, say);
}

async function linuxPlaces(
  plan: Plan,
  refused: ReadonlyMap<PathName, string>,
  able: readonly PathName[],
  say: (text: string) => void,
): Promise<Places> {
  const { LinuxPair, linuxFiles, linuxPath } = await import("./linux.js");
  const { rdmaPath } = await import("./rdma.js");
  const perftest = able.includes("rdma") ? await perftestName() : "";
  const files = await linuxFiles(able, functionsOf(plan));
  const pairs: LinuxPairType[] = [];
  const end = async () => {
    for (const pair of pairs) await pair.dispose();
  };
  try {
    for (let pair = 0; pair < Math.max(...plan.pairs); pair++) {
      say(`booting pair ${pair + 1} of Linux guests`);
      pairs.push(await LinuxPair.boot(files, able, pair));
    }
  } catch (error) {
    await end();
    throw error;
  }
  return {
    offers: offersOf(plan, refused, (path) =>
      path === "rdma" ? rdmaPath(pairs, perftest) : linuxPath(path, pairs),
    ),
    guests: { kind: "linux", vcpus: 1, memoryMiB: files.memoryMiB, kernel: files.kernel.version },
    [Symbol.asyncDispose]: end,
  };
}
