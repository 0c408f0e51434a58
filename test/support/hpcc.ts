// SPDX-License-Identifier: Apache-2.0
/** hpcc, HPC Challenge: an MPI program of Debian's, unchanged; `make -C bypass tests` builds it with two MPIs. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { bypassBuild, MPIRUN, run } from "./bypass.js";
import { V2M } from "./v2m.js";

/** What of its summary depends on arithmetic and messages alone, not on time. */
const RESULTS =
  "CommWorldProcs|HPL_[A-Z][a-z]*norm[1I]|HPL_N|PTRANS_residual|MPIRandomAccess.*Errors|Success";
const FFT_ERROR = "MPIFFT_maxErr";

/** A shell command that prints them. */
export const HPCC_RESULTS = `grep -E '^(${RESULTS}|${FFT_ERROR})=' hpccoutf.txt`;

/** For 4 ranks: its own input, but for smaller matrices. */
export async function hpccInput(): Promise<Buffer> {
  const own = await readFile(join(bypassBuild("hpcc.source"), "_hpccinf.txt"), "utf8");
  return Buffer.from(own.replace(/^1000 (?= *Ns)/m, "120  ").replace(/^80 (?= *NBs)/m, "16 "));
}

interface HpccResults {
  /** `HPL_RnormI=5.50671e-14`, … */
  readonly exact: readonly string[];
  /** Depends on the C library's sine, too. */
  readonly fftError: number;
}

export function hpccResults(text: string): HpccResults {
  const lines = text.split("\n").filter((line) => /^\w+=/.test(line));
  const fft = lines.find((line) => line.startsWith(FFT_ERROR));
  return {
    exact: lines.filter((line) => line !== fft).sort(),
    fftError: Number(fft?.split("=")[1]),
  };
}

/** Run it as 4 ranks, started by a command that takes the program last. */
async function hpcc(launcher: readonly string[], program: string): Promise<HpccResults> {
  const cwd = await mkdtemp(join(tmpdir(), "v3m-hpcc-"));
  try {
    await writeFile(join(cwd, "hpccinf.txt"), await hpccInput());
    const [command = "", ...args] = launcher;
    const env = { OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" };
    const ran = await run(command, [...args, bypassBuild(program)], { cwd, env });
    if (ran.code !== 0) throw new Error(`${command}: ${ran.code}: ${ran.stdout}${ran.stderr}`);
    return hpccResults((await run("sh", ["-c", HPCC_RESULTS], { cwd })).stdout);
  } finally {
    await rm(cwd, { recursive: true, force: true });
  }
}

/** On libbypass, as processes of this computer. */
export function hpccWithBypass(): Promise<HpccResults> {
  return hpcc([MPIRUN, "-n", "4"], "hpcc");
}

/** On libbypass, as ranks on the lightweight kernel. */
export function hpccOnLwk(): Promise<HpccResults> {
  const ranks = ["--ranks", "4", "--memory", "64M", "--root", ".:rw"];
  return hpcc([...V2M, "yod", ...ranks], "hpcc");
}

/** With stock OpenMPI, over TCP, as processes of this computer. */
export function hpccWithOpenMpi(): Promise<HpccResults> {
  const parameters = {
    pml: "ob1",
    btl: "tcp,self",
    btl_tcp_if_include: "lo",
    mpi_yield_when_idle: "1",
    plm: "isolated",
  };
  const mca = Object.entries(parameters).flatMap(([name, value]) => ["--mca", name, value]);
  return hpcc(["mpirun.openmpi", ...mca, "--oversubscribe", "-n", "4"], "hpcc-openmpi");
}

/** The same, and right. */
export function expectSameResults(own: HpccResults, others: HpccResults): void {
  expect(own.exact).toContain("CommWorldProcs=4");
  expect(own.exact).toContain("Success=1");
  expect(own.exact).toEqual(others.exact);
  for (const { fftError } of [own, others]) expect(fftError).toBeLessThan(1e-14);
}
