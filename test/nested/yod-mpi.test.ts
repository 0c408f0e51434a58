// SPDX-License-Identifier: Apache-2.0
/** MPI programs as ranks of `v2m yod`, over the bypass: woken by interrupts. */
import { expect, it } from "vitest";
import { bypassBuild, counts } from "../support/bypass.js";
import { suite } from "../support/capabilities.js";
import { expectSameResults, hpccOnLwk, hpccWithOpenMpi } from "../support/hpcc.js";
import { expectIntegrity, netpipeArgs } from "../support/netpipe.js";
import { FULL, rounds } from "../support/places.js";
import { v2m } from "../support/v2m.js";

const yod = (ranks: number, ...command: string[]) =>
  v2m("yod", "--memory", "64M", "--ranks", String(ranks), "--prefix", "--env", "V3M_MPI_STATS=1", ...command);

suite("MPI programs as ranks of v2m yod", { needs: ["lwk"] }, () => {
  it.each(FULL ? [2, 4, 7] : [4])(
    "each function of the subset does what it should: %i ranks",
    async (ranks) => {
      const ran = await yod(ranks, bypassBuild("mpi_check"));
      expect(ran).toMatchObject({ code: 0, stdout: `[0] ${ranks} ranks: all is well\n` });
      const lines = ran.stderr.trim().split("\n");
      expect(lines).toHaveLength(ranks);
      for (const { sleeps, doorbells } of lines.map(counts)) {
        expect(sleeps).toBeGreaterThan(0);
        expect(doorbells).toBeGreaterThan(0);
      }
    },
  );

  it("MPI_Abort ends all ranks, with its code", async () => {
    expect((await yod(4, bypassBuild("mpi_check"), "abort")).code).toBe(7);
  });

  it("NetPIPE, which nobody wrote for V3M, finds all its bytes", async () => {
    const ran = await yod(2, bypassBuild("NPmpi"), ...netpipeArgs(rounds(70_000, 1_000_000)));
    expect(ran.code).toBe(0);
    expectIntegrity(`${ran.stdout}${ran.stderr}`);
  });

  it("hpcc, which nobody wrote for V3M, gives the results that it gives with OpenMPI over TCP", async () => {
    expectSameResults(await hpccOnLwk(), await hpccWithOpenMpi());
  });
});
