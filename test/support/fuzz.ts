// SPDX-License-Identifier: Apache-2.0
/**
 * Runs a libFuzzer target for some seconds. A run fails on a finding, and where it does not reach what lies behind
 * the parser: too few inputs accepted, or too few lines of the code under test covered.
 *
 * V3M_FUZZ_SECONDS: for each target, default 10, 60 in `make test-full`.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";

const run = promisify(execFile);
export const FUZZ_SECONDS = Number(process.env.V3M_FUZZ_SECONDS ?? (process.env.V3M_TEST_FULL ? 60 : 10));
/** How far a target gets in a short run depends on how busy the computer is; what lies behind the parser it reaches. */
const SHORT_RUN_SLACK = 20;

export interface Target {
  /** Lines that must be covered, in percent, of each file under test. */
  readonly covers: Readonly<Record<string, number>>;
  /** Path of a dictionary. */
  readonly dictionary?: string;
  readonly maxLength?: number;
}

export interface Result {
  readonly code: number | null;
  readonly log: string;
  readonly perSecond: number;
  readonly inputs: number;
  readonly successes: number;
  /** Percent of lines, by file, of everything that the target touches. */
  readonly coverage: Readonly<Record<string, number>>;
}

function capture(program: string, args: string[], env: NodeJS.ProcessEnv): Promise<[number | null, string]> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    const keep = (chunk: Buffer) => {
      log = (log + chunk.toString("latin1")).slice(-100_000);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", reject);
    child.on("close", (code) => resolve([code, log]));
  });
}

async function lineCoverage(
  program: string,
  profile: string,
  sources: string,
): Promise<Record<string, number>> {
  const merged = `${profile}.merged`;
  await run("llvm-profdata", ["merge", "-o", merged, profile]);
  const { stdout } = await run("llvm-cov", ["export", "-summary-only", `-instr-profile=${merged}`, program], {
    maxBuffer: 1 << 26,
  });
  interface Exported {
    data: { files: { filename: string; summary: { lines: { percent: number } } }[] }[];
  }
  const files = (JSON.parse(stdout) as Exported).data[0]?.files ?? [];
  return Object.fromEntries(
    files
      .map((file): [string, number] => [
        file.filename.replace(sources, "").replace(/^src\//, ""),
        Math.round(file.summary.lines.percent * 10) / 10,
      ])
      .filter(([name, percent]) => percent > 0 && !/^(fuzz|test|include)\//.test(name)),
  );
}

/**
 * @param program the target; findings go into a directory beside it
 * @param sources directory to which the names in `covers` are relative, with or without `src/`; ends with a slash
 * @param seeds directory of first inputs, if there are any
 */
export async function fuzz(
  program: string,
  target: Target,
  sources: string,
  seeds?: string,
): Promise<Result> {
  const name = basename(program).replace("fuzz_", "");
  // In memory where that can be: a busy host's disk may take longer over a flush than an input may take.
  const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  const work = await mkdtemp(join(base, `v3m-fuzz-${name}-`));
  const findings = join(dirname(program), "findings/");
  const corpus = join(work, "corpus");
  try {
    await mkdir(findings, { recursive: true });
    await (seeds === undefined ? mkdir(corpus) : cp(seeds, corpus, { recursive: true }));
    const profile = join(work, "profile");
    const args = [
      `-max_total_time=${FUZZ_SECONDS}`,
      `-max_len=${target.maxLength ?? 16384}`,
      "-timeout=60",
      "-rss_limit_mb=2048",
      "-print_final_stats=1",
      `-artifact_prefix=${findings}${name}-`,
      corpus,
    ];
    if (target.dictionary) {
      args.unshift(`-dict=${target.dictionary}`);
    }
    const [code, log] = await capture(program, args, {
      ...process.env,
      LLVM_PROFILE_FILE: profile,
      TMPDIR: work,
    });
    const number = (pattern: RegExp) => Number(pattern.exec(log)?.[1] ?? 0);
    const covered = (await stat(profile).catch(() => undefined)) !== undefined;
    return {
      code,
      log,
      perSecond: number(/average_exec_per_sec:\s*(\d+)/),
      inputs: number(/v3m-fuzz inputs=(\d+)/),
      successes: number(/v3m-fuzz inputs=\d+ successes=(\d+)/),
      coverage: covered ? await lineCoverage(program, profile, sources) : {},
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** It found nothing, and got where it should. */
export function expectFuzzed(name: string, target: Target, result: Result): void {
  const { code, log, perSecond, inputs, successes, coverage } = result;
  const covered = Object.keys(target.covers).map((file) => `${file} ${coverage[file] ?? 0} %`);
  console.log(
    `fuzz ${name}: ${inputs} inputs, ${perSecond}/s, ${successes} accepted; lines of ${covered.join(", ")}`,
  );
  expect(code, log.slice(-4000)).toBe(0);
  const slack = FUZZ_SECONDS < 60 ? SHORT_RUN_SLACK : 0;
  expect(successes, "inputs accepted").toBeGreaterThan(20);
  for (const [file, percent] of Object.entries(target.covers)) {
    expect(coverage[file] ?? 0, `lines covered of ${file}`).toBeGreaterThanOrEqual(percent - slack);
  }
}
