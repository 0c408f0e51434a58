// SPDX-License-Identifier: Apache-2.0
/** The MPI subset on libbypass, between processes of this computer. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bypassBuild, MPICC, mpirun, run } from "../support/bypass.js";
import { expectSameResults, hpccWithBypass, hpccWithOpenMpi } from "../support/hpcc.js";

describe("MPI subset", () => {
  it.each([1, 2, 3, 4, 7])("each function does what it should: %i ranks", async (ranks) => {
    const ran = await mpirun(ranks, [bypassBuild("asan/mpi_check")]);
    expect(ran).toEqual({ code: 0, stdout: `${ranks} ranks: all is well\n`, stderr: "" });
  });

  it("without sleeping, in the smallest areas", async () => {
    const options = { flags: ["--area", "65536"], env: { BYPASS_WAIT: "poll" } };
    const ran = await mpirun(3, [bypassBuild("asan/mpi_check")], options);
    expect(ran).toEqual({ code: 0, stdout: "3 ranks: all is well\n", stderr: "" });
  });

  it("MPI_Abort ends all ranks, with its code", async () => {
    const ran = await mpirun(4, [bypassBuild("mpi_check"), "abort"], { flags: ["--keep-going"] });
    expect(ran.code).toBe(7);
    expect(ran.stdout).toBe("");
    expect(ran.stderr.match(/^rank [023]: MPI_Recv: a rank is gone$/gm)).toHaveLength(3);
  });

  it("the death of a rank is an error that a program can handle", async () => {
    const ran = await mpirun(4, [bypassBuild("mpi_check"), "survive"], { flags: ["--keep-going"] });
    expect(ran.stdout.match(/^rank [023]: the sender is gone$/gm)).toHaveLength(3);
    expect(ran.code).toBe(3);
  });
});

describe("hpcc, which nobody wrote for V3M", () => {
  it("gives the results that it gives with OpenMPI over TCP", async () => {
    expectSameResults(await hpccWithBypass(), await hpccWithOpenMpi());
  }, 500_000);
});

describe("v3m-mpicc", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "v3m-mpicc-"));
    await writeFile(
      join(directory, "sum.c"),
      `#include <mpi.h>
       #include <stdio.h>
       int main(int argc, char **argv)
       {
         int rank, sum;
         MPI_Init(&argc, &argv);
         MPI_Comm_rank(MPI_COMM_WORLD, &rank);
         MPI_Reduce(&rank, &sum, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
         if (rank == 0) printf("%d\\n", sum);
         MPI_Finalize();
       }`,
    );
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  it.each(["musl-gcc", "gcc"])("makes static programs with %s", async (compiler) => {
    const options = { cwd: directory, env: { V3M_MPI_CC: compiler } };
    const compiled = await run(MPICC, ["-O2", "-c", "sum.c"], options);
    expect(compiled.stderr).toBe("");
    expect((await run(MPICC, ["-o", "sum", "sum.o"], options)).stderr).toBe("");
    const ran = await mpirun(4, ["./sum"], { cwd: directory });
    expect(ran).toEqual({ code: 0, stdout: "6\n", stderr: "" });
    const headers = await run("readelf", ["-l", "sum"], { cwd: directory });
    expect(headers.stdout).not.toContain("INTERP");
  });

  it("shows its command", async () => {
    const shown = await run(MPICC, ["--showme", "x.c"]);
    expect(shown.stdout).toMatch(/-static -I\S+\/mpi x\.c \S+\/libv3m-mpi\.a \S+\/libbypass\.a -lm\n/);
  });
});
