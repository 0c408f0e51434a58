// SPDX-License-Identifier: Apache-2.0
/** The stages of `make test`: what is run where, in which order, and what it leaves behind. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { FULL, type Place } from "./places.js";

export interface Stage {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Stages that must have ended before. */
  readonly after?: readonly string[];
  /** Its tests' results: the place, and the file that holds them. Without: the stage itself is a test. */
  readonly results?: { readonly place: Place; readonly file: string };
}

const HOUR_S = 3600;

function vitest(name: string, projects: readonly string[], results: string): Stage {
  return {
    name: `host ${name}`,
    argv: ["npx", "--no-install", "vitest", "run", ...projects.flatMap((project) => ["--project", project])],
    env: { V3M_RESULTS: results, V3M_TEST_PART: name },
    results: { place: "host", file: join(results, `host.${name}.json`) },
  };
}

/** A machine that runs the light runner on these files; its results appear in a directory of its own. */
function machine(
  name: string,
  place: "amd" | "intel",
  results: string,
  limitS: number,
  files: readonly string[],
): Stage {
  const out = join(results, `${name}.out`);
  const variables = ["V3M_TEST_FULL", "V3M_TEST_SCOPE"].flatMap((variable) => ["--env", variable]);
  const options = ["--cpu", place, "--no-stdin", "--timeout", String(limitS), "--out", out, ...variables];
  const runner = ["node", "dist/test/support/light-runner.js", ...files];
  return {
    name,
    argv: [process.execPath, "dist/harness/main.js", ...options, "--", ...runner],
    after: ["prepare", ...(place === "amd" ? ["disk-image", "package-images"] : ["gdb"])],
    results: { place, file: join(out, `${place}.json`) },
  };
}

/** What runs in the second AMD machine: tests of guests. The first one has those of V3M's own parts. */
const GUESTS = /^(linux|lwk|yod)-/;

/** The emulated AMD machine has one CPU: two machines, with half of the files each, take half the time. */
function amdMachines(results: string, limitS: number): Stage[] {
  const nested = readdirSync("test/nested").filter((name) => name.endsWith(".test.ts"));
  const paths = (guests: boolean) =>
    nested.filter((name) => GUESTS.test(name) === guests).map((name) => `test/nested/${name}`);
  return [
    machine("amd", "amd", results, limitS, ["test/kvm", ...paths(false)]),
    machine("amd-guests", "amd", results, limitS, paths(true)),
  ];
}

/** Tests that change the network: in a namespace of their own, where this user may make one. */
function privateNetwork(results: string): Stage {
  const files = [
    "test/nested/network.test.ts",
    "test/nested/qemu-nat.test.ts",
    "test/nested/conformance.test.ts",
  ];
  const inside = 'mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && exec "$@"';
  const asRoot = process.geteuid?.() === 0 ? [] : ["--map-root-user"];
  return {
    name: "host net",
    argv: [
      ...["unshare", ...asRoot, "--net", "--mount", "sh", "-c", inside, "sh"],
      ...[process.execPath, "dist/test/support/light-runner.js", ...files],
    ],
    env: { V3M_RESULTS: results, V3M_TEST_PART: "net", V3M_TEST_NETNS: "1" },
    results: { place: "host", file: join(results, "host.net.json") },
  };
}

/** In order of preference: whatever is first and may run takes the next free CPU. The longest come first. */
export function stages(results: string): Stage[] {
  const limitS = FULL ? 4 * HOUR_S : HOUR_S;
  const prepare = [process.execPath, "dist/harness/main.js", "--cpu", "amd", "--prepare"];
  return [
    { name: "prepare", argv: prepare },
    { name: "disk-image", argv: [process.execPath, "dist/harness/disk-image.js"] },
    { name: "gdb", argv: [process.execPath, "dist/harness/minimal-gdb.js"] },
    { name: "package-images", argv: [process.execPath, "dist/test/support/package-images.js"] },
    { name: "biome", argv: ["npx", "--no-install", "biome", "check", "--error-on-warnings", "."] },
    { name: "tsc", argv: ["npx", "--no-install", "tsc", "--noEmit", "-p", "tsconfig.json"] },
    {
      name: "clang-format",
      argv: [
        "sh",
        "-c",
        "make -s -C native format-check && make -s -C firmware/lwk format-check && make -s -C bypass format-check && make -s -C src/netbench/program format-check",
      ],
    },
    machine("intel", "intel", results, limitS, ["test/kvm", "test/nested"]),
    {
      name: "clang-tidy",
      argv: [
        "sh",
        "-c",
        "make -s -C native tidy && make -s -C bypass tidy && make -s -C src/netbench/program tidy",
      ],
    },
    vitest("unit", ["unit"], results),
    { ...vitest("kvm", ["kvm", "nested"], results), after: ["package-images"] },
    { ...privateNetwork(results), after: ["package-images"] },
    ...amdMachines(results, limitS),
    { ...vitest("e2e", ["e2e"], results), after: ["prepare", "amd", "amd-guests"] },
  ];
}
