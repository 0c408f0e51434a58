// SPDX-License-Identifier: Apache-2.0
/**
 * Runs each libFuzzer target (native/fuzz) for some seconds from its seeds. A run fails on a finding, and
 * where it does not reach what lies behind the parser: too few inputs accepted, or too few lines of the
 * code under test covered.
 *
 * V3M_FUZZ_SECONDS: for each target, default 10, 60 in `make test-full`.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const run = promisify(execFile);
const native = fileURLToPath(new URL("../../native/", import.meta.url));
const build = join(native, "build/fuzz");
/** How far a target gets in a short run depends on how busy the computer is; what lies behind the parser it reaches. */
const SHORT_RUN_SLACK = 20;
const seconds = Number(process.env.V3M_FUZZ_SECONDS ?? (process.env.V3M_TEST_FULL ? 60 : 10));
const AT_ONCE = 2;

interface Target {
  /** Lines that must be covered, in percent, of each file under test. */
  readonly covers: Readonly<Record<string, number>>;
  /** In native/fuzz. */
  readonly dictionary?: string;
  readonly maxLength?: number;
}

/** Every native/fuzz/fuzz_NAME.c has an entry. */
const targets: Readonly<Record<string, Target>> = {
  bzimage: { covers: { "boot/bzimage.c": 90, "boot/linux.c": 90 }, dictionary: "boot.dict" },
  elf: {
    covers: { "boot/elf.c": 85, "boot/elfnote.c": 85, "boot/elflinux.c": 90, "boot/pvh.c": 90 },
    dictionary: "boot.dict",
  },
  multiboot: { covers: { "boot/multiboot.c": 90 }, dictionary: "boot.dict" },
  flat: { covers: { "boot/flat.c": 85 }, dictionary: "boot.dict", maxLength: 4096 },
  boot: { covers: { "boot/recognise.c": 85, "boot/load.c": 60 }, dictionary: "boot.dict" },
  dispatch: { covers: { "dispatch.c": 90 }, maxLength: 2000 },
  packed: { covers: { "snapshot/unpack.c": 85 }, maxLength: 4096 },
  dhcp: { covers: { "supervise/dhcp.c": 85 }, maxLength: 600 },
  snapshot: {
    covers: {
      "snapshot/read.c": 70,
      "snapshot/memory.c": 45,
      "snapshot/layers.c": 60,
      "snapshot/whole.c": 60,
      "snapshot/machine.c": 60,
      "snapshot/pci.c": 85,
      "snapshot/virtio.c": 45,
      "snapshot/uart.c": 70,
    },
    maxLength: 4096,
  },
  uart: { covers: { "uart.c": 90 }, maxLength: 4096 },
  unpack: {
    covers: {
      "unpack/unpack.c": 75,
      "unpack/lz4.c": 75,
      "unpack/gzip.c": 60,
      "unpack/xz.c": 50,
      "unpack/zstd.c": 65,
    },
    dictionary: "unpack.dict",
  },
  pci: { covers: { "pci/bus.c": 75, "pci/msix.c": 70, "virtio/pci_transport.c": 75 }, maxLength: 4096 },
  shm: { covers: { "shm/device.c": 75, "shm/window.c": 70, "shm/link.c": 80 }, maxLength: 4096 },
  vfio: { covers: { "vfio/config.c": 75, "vfio/bars.c": 65 }, maxLength: 4096 },
  virtio_blk: { covers: { "virtio/blk.c": 85, "virtio/blk_overlay_io.c": 75 }, maxLength: 8192 },
  virtio_net: {
    covers: {
      "virtio/net.c": 60,
      "virtio/net_rx.c": 85,
      "virtio/net_header.c": 75,
      "virtio/net_gso.c": 80,
      "virtio/net_stream.c": 80,
    },
    maxLength: 8192,
  },
  control: {
    covers: {
      "monitor/server.c": 30,
      "monitor/setup.c": 70,
      "monitor/requests.c": 80,
      "remote/wire.c": 75,
    },
    maxLength: 4096,
  },
  gdb: {
    covers: { "gdb/packet.c": 80, "gdb/commands.c": 85, "gdb/run.c": 80, "gdb/registers.c": 70 },
    maxLength: 4096,
  },
  virtqueue: { covers: { "virtio/virtqueue.c": 85 }, maxLength: 8192 },
  virtio_small: {
    covers: { "virtio/rng.c": 60, "virtio/hvc.c": 55, "virtio/balloon.c": 55 },
    maxLength: 24_000,
  },
  yod: {
    covers: {
      "yod/path.c": 85,
      "yod/walk.c": 85,
      "yod/open.c": 80,
      "yod/names.c": 85,
      "yod/io.c": 80,
      "yod/stat.c": 80,
    },
    maxLength: 2000,
  },
};

interface Result {
  readonly code: number | null;
  readonly log: string;
  readonly perSecond: number;
  readonly inputs: number;
  readonly successes: number;
  /** Percent of lines, by file, of everything that the target touches. */
  readonly coverage: Readonly<Record<string, number>>;
}

const results: Record<string, Result> = {};
let seeds: string;

/** At most AT_ONCE of them at a time, in order. */
const waiting: (() => void)[] = [];
let free = AT_ONCE;
async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (free === 0) {
    await new Promise<void>((resolve) => waiting.push(resolve));
  } else {
    free--;
  }
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) {
      next();
    } else {
      free++;
    }
  }
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

async function lineCoverage(program: string, profile: string): Promise<Record<string, number>> {
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
        file.filename.replace(native, "").replace(/^src\//, ""),
        Math.round(file.summary.lines.percent * 10) / 10,
      ])
      .filter(([name, percent]) => percent > 0 && !/^(fuzz|test|include)\//.test(name)),
  );
}

async function fuzz(name: string, target: Target): Promise<Result> {
  // In memory where that can be: a busy host's disk may take longer over a flush than an input may take.
  const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  const work = await mkdtemp(join(base, `v3m-fuzz-${name}-`));
  const findings = join(build, "findings/");
  const program = join(build, `fuzz_${name}`);
  try {
    await mkdir(findings, { recursive: true });
    await cp(join(seeds, name), join(work, "corpus"), { recursive: true });
    const profile = join(work, "profile");
    const args = [
      `-max_total_time=${seconds}`,
      `-max_len=${target.maxLength ?? 16384}`,
      "-timeout=60",
      "-rss_limit_mb=2048",
      "-print_final_stats=1",
      `-artifact_prefix=${findings}${name}-`,
      join(work, "corpus"),
    ];
    if (target.dictionary) {
      args.unshift(`-dict=${join(native, "fuzz", target.dictionary)}`);
    }
    const [code, log] = await capture(program, args, {
      ...process.env,
      LLVM_PROFILE_FILE: profile,
      TMPDIR: work,
    });
    const number = (pattern: RegExp) => Number(pattern.exec(log)?.[1] ?? 0);
    return {
      code,
      log,
      perSecond: number(/average_exec_per_sec:\s*(\d+)/),
      inputs: number(/v3m-fuzz inputs=(\d+)/),
      successes: number(/v3m-fuzz inputs=\d+ successes=(\d+)/),
      coverage: (await stat(profile).catch(() => undefined)) ? await lineCoverage(program, profile) : {},
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

describe("fuzzing", () => {
  const timeout = (Object.keys(targets).length / AT_ONCE) * seconds * 1000 + 180_000;

  beforeAll(async () => {
    seeds = await mkdtemp(join(tmpdir(), "v3m-seeds-"));
    await run(join(build, "seeds"), [seeds]);
  });

  afterAll(async () => {
    await rm(seeds, { recursive: true, force: true });
    const report = Object.fromEntries(
      Object.entries(results).map(([name, { log: _, code: __, ...rest }]) => [name, { seconds, ...rest }]),
    );
    await writeFile(join(build, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  });

  it("has an entry above for every target in native/fuzz", async () => {
    const sources = (await readdir(join(native, "fuzz"))).flatMap(
      (name) => /^fuzz_(.*)\.c$/.exec(name)?.[1] ?? [],
    );
    expect(Object.keys(targets).sort()).toEqual(sources.sort());
  });

  it.concurrent.each(Object.entries(targets))(
    "%s",
    async (name, target) => {
      const result = await inTurn(() => fuzz(name, target));
      results[name] = result;
      const { code, log, perSecond, inputs, successes, coverage } = result;
      const covered = Object.keys(target.covers).map((file) => `${file} ${coverage[file] ?? 0} %`);
      console.log(
        `fuzz ${name}: ${inputs} inputs, ${perSecond}/s, ${successes} accepted; lines of ${covered.join(", ")}`,
      );
      expect(code, log.slice(-4000)).toBe(0);
      const slack = seconds < 60 ? SHORT_RUN_SLACK : 0;
      expect(successes, "inputs accepted").toBeGreaterThan(20);
      for (const [file, percent] of Object.entries(target.covers)) {
        expect(coverage[file] ?? 0, `lines covered of ${file}`).toBeGreaterThanOrEqual(percent - slack);
      }
    },
    timeout,
  );
});
