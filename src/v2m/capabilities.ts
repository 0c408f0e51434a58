// SPDX-License-Identifier: Apache-2.0
/** `v2m capabilities`: what each back end can do on this host. */
import { type Capability, FEATURES, type Probe } from "../vmm/backend.js";
import { Exit } from "./exit-codes.js";
import { type FrontFlags, openFront } from "./front.js";
import { say, sayJson, sayTable } from "./output.js";

export interface CapabilityFlags extends FrontFlags {
  readonly reasons?: boolean;
}

function word(capability: Capability | undefined): string {
  switch (capability?.supported) {
    case "yes":
      return "yes";
    case "experimental":
      return "trial";
    default:
      return "-";
  }
}

function reason(capability: Capability | undefined): string | undefined {
  if (capability?.supported === "no") return capability.reason;
  return capability?.supported === "experimental" ? `experimental: ${capability.note}` : undefined;
}

function notes(probes: readonly Probe[], reasons: boolean): string[] {
  return probes.flatMap((probe) => {
    const state = probe.usable ? "usable" : (probe.reason ?? "not usable");
    const version = probe.version === undefined ? "" : ` (${probe.version})`;
    const hint = probe.usable || probe.hint === undefined ? "" : `; ${probe.hint}`;
    const rows = FEATURES.flatMap((feature) => {
      const why = reason(probe.capabilities[feature]);
      return reasons && why !== undefined ? [`  ${feature}: ${why}`] : [];
    });
    return [`${probe.type}${version}: ${state}${hint}`, ...rows];
  });
}

export async function capabilities(types: readonly string[], flags: CapabilityFlags): Promise<number> {
  const v3m = openFront(flags);
  const probes = await v3m.capabilities(types.length === 0 ? undefined : types);
  if (flags.json === true) {
    sayJson(probes);
    return Exit.OK;
  }
  const rows = FEATURES.map((feature) => [
    feature,
    ...probes.map((probe) => word(probe.capabilities[feature])),
  ]);
  sayTable(["FEATURE", ...probes.map((probe) => probe.type)], rows, "no back ends");
  say(["", ...notes(probes, flags.reasons === true)].join("\n"));
  return Exit.OK;
}
