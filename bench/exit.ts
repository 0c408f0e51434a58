// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench:exit`: what it costs when a guest's port access is answered by user space, in C and in TypeScript,
 * beside a bare C loop round KVM_RUN as the floor. Runs on any usable /dev/kvm. See docs/benchmarks.md.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { packageRoot } from "../src/ffi/library.js";
import { environment } from "../src/measure/environment.js";
import { rotated } from "../src/measure/statistics.js";
import { diagnose } from "../src/v2m/doctor.js";
import { hostFacts } from "../src/vmm/host.js";
import { describe, type ExitResult, picture, type VariantResult } from "./exit/result.js";
import { readOptions } from "./lib/options.js";
import { INSIDE, runNested } from "./lib/place.js";
import { Results } from "./lib/results.js";

const USAGE = `usage: npm run bench:exit -- [--rounds N | --quick] [--nested] [--results DIR]
  --rounds N     alternated rounds (default 7)
  --quick        3 short rounds
  --nested       in the nested machine, also where this host's /dev/kvm could be used
  --results DIR  where bench-exit.json and bench-exit.svg go (default: results)
`;
const NESTED_TIMEOUT_SECONDS = 1800;

const options = readOptions(USAGE, ["nested", INSIDE]);
const results = new Results(options.results, "exit");
const say = (text: string) => process.stderr.write(`[bench:exit] ${text}\n`);
/** Enough for V8 to have compiled what is hot before the measurement. */
const warmTurns = options.quick ? 1000 : 5000;
const turns = options.quick ? 1000 : 10000;

type Variant = Omit<VariantResult, "nanoseconds">;

function variants(): Variant[] {
  const numbers = [String(warmTurns), String(turns)];
  const tool = (name: string) => [join(packageRoot(), "native/build/release", name), ...numbers];
  const script = fileURLToPath(new URL("./exit/variant.js", import.meta.url));
  const node = (variant: string) => [process.execPath, script, variant, ...numbers];
  return [
    { id: "floor", label: "bare C loop", command: tool("exit-floor"), goal: null },
    { id: "c", label: "libvmmhpc, C device", command: tool("exit-bench"), goal: 1.1 },
    { id: "typescript-raw", label: "TypeScript loop (v3m/kvm)", command: node("raw"), goal: 1.2 },
    {
      id: "typescript-worker",
      label: "TypeScript device, vCPU's thread",
      command: node("worker"),
      goal: 1.2,
    },
    {
      id: "typescript-callback",
      label: "TypeScript device, other thread",
      command: node("callback"),
      goal: null,
    },
  ];
}

/** Nanoseconds an exit. @throws where the program fails, with what it said */
function measure(variant: Variant): number {
  const [program = "", ...args] = variant.command;
  const output = execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  const value = Number(output);
  if (!(value > 0)) throw new Error(`${variant.label}: no figure but ${JSON.stringify(output)}`);
  return value;
}

function measureHere(): ExitResult {
  const list = variants();
  const values = new Map<string, number[]>(list.map(({ id }) => [id, []]));
  for (let round = 0; round < options.rounds; round++) {
    for (const variant of rotated(list, round)) {
      const value = measure(variant);
      values.get(variant.id)?.push(value);
      say(`round ${round + 1}/${options.rounds}: ${variant.label}: ${(value / 1000).toFixed(2)} µs`);
    }
  }
  return {
    schema: "v3m-bench-exit/1",
    machine: environment(),
    host: null,
    rounds: options.rounds,
    warmTurns,
    turns,
    variants: list.map((variant) => ({ ...variant, nanoseconds: values.get(variant.id) ?? [] })),
  };
}

function show(result: ExitResult): void {
  results.writeJson(result);
  results.writeSvg(picture(result));
  process.stdout.write(`\n${describe(result)}\n\n${results.path("json")}\n${results.path("svg")}\n`);
}

const usable = hostFacts().kvm_status === 0;
if (options.flags.has(INSIDE)) {
  results.writeJson(measureHere());
} else if (usable && !options.flags.has("nested")) {
  show(measureHere());
} else {
  const { place, advice } = diagnose();
  if (place === "nowhere") {
    say(`there is no usable /dev/kvm and no nested machine: ${advice}`);
    process.exit(4);
  }
  say("in the nested machine: times are an emulator's, ratios are what counts");
  const code = await runNested(results.directory, options.args, NESTED_TIMEOUT_SECONDS);
  if (code !== 0) process.exit(code);
  show({ ...results.readJson<ExitResult>(), host: environment() });
}
