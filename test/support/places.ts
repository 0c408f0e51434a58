// SPDX-License-Identifier: Apache-2.0
/**
 * The places in which tests run, and what is left out where. A place is a kind of machine; a test has the same
 * name in all of them. What a place lacks is said by the tests themselves (`needs` of `suite`); what it has but
 * is too slow for is listed here, with the reason.
 */

/** `host`: this computer. `amd`, `intel`: the emulated machines. `host-kvm`: a testbed on real hardware. */
export type Place = "host" | "amd" | "intel" | "host-kvm";

export const PLACES: readonly Place[] = ["host", "amd", "intel", "host-kvm"];

/** Where this process runs. The testbed calls its machine on real hardware `host`. */
export function currentPlace(): Place {
  switch (process.env.V3M_TESTBED) {
    case undefined:
    case "":
      return "host";
    case "amd":
      return "amd";
    case "intel":
      return "intel";
    default:
      return "host-kvm";
  }
}

/** `make test-full`: more rounds, more kernels. */
export const FULL = (process.env.V3M_TEST_FULL ?? "") !== "";

/**
 * `core` leaves out what EXCLUSIONS names for the place; `all` runs it nevertheless. Default: `core`.
 */
export const SCOPE: "core" | "all" = process.env.V3M_TEST_SCOPE === "all" ? "all" : "core";

/** `short` rounds by default, `full` ones in `make test-full`. */
export function rounds(short: number, full: number): number {
  return FULL ? full : short;
}

export interface Exclusion {
  readonly place: Place;
  /** Matched against `file > suite > test`. */
  readonly match: RegExp;
  readonly reason: string;
}

/** Left out in `core` scope: each of these runs in another place. */
export const EXCLUSIONS: readonly Exclusion[] = [
  {
    place: "intel",
    match: /^test\/kvm\/(machine-many|machine-workers|v2m-|raw-life)/,
    reason: "left out under Bochs: every start of Node.js or of a thread of it takes seconds there",
  },
  {
    place: "intel",
    match: /^test\/nested\/(?!linux-boot|lwk-avx|gdb.* > gdb on )/,
    reason: "left out under Bochs: minutes for each Linux guest",
  },
  {
    place: "intel",
    match: /^test\/kvm\/machine-shm/,
    reason: "left out under Bochs: guests poll each other there with interrupts off, on one CPU",
  },
  {
    place: "intel",
    match: /^test\/kvm\/machine-gdb.* > ends with the server/,
    reason: "gdb-minimal, which is there, ends when its server does",
  },
  {
    place: "intel",
    match: /^test\/nested\/linux-boot.*(\d vCPUs|by PVH|decompressed on the host)/,
    reason: "left out under Bochs: minutes for each Linux guest",
  },
  {
    place: "amd",
    match: /^test\/nested\/(conformance-lies|qemu-)/,
    reason: "QEMU emulates: it does so on this computer too",
  },
  {
    place: "amd",
    match: /^test\/nested\/package-images.* > Qemu/,
    reason: "QEMU emulates: it does so on this computer too",
  },
  {
    place: "amd",
    match: /^test\/nested\/conformance.* > Qemu > (?!nic:VLAN|nic:vhost|vsock|hugepages|matrix|host)/,
    reason: "emulation within emulation takes minutes: only what this computer lacks",
  },
];

/** Why a test is left out here, or undefined. */
export function excluded(fullName: string, place: Place = currentPlace()): string | undefined {
  if (SCOPE === "all") {
    return undefined;
  }
  return EXCLUSIONS.find((rule) => rule.place === place && rule.match.test(fullName))?.reason;
}

/** Limits of a test and of a hook, milliseconds: against hangs only. Everything is slow under emulation. */
export const LIMITS = {
  unit: 300_000,
  kvm: 300_000,
  nested: 600_000,
  e2e: 600_000,
} as const;

export type Suite = keyof typeof LIMITS;

export const SUITES = Object.keys(LIMITS) as readonly Suite[];

/** The suite that a file belongs to, by its directory: `test/kvm/…` is in `kvm`. */
export function suiteOf(file: string): Suite {
  const name = file.split("/")[1];
  return SUITES.find((suite) => suite === name) ?? "unit";
}
