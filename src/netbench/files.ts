// SPDX-License-Identifier: Apache-2.0
/** The files of a result, each there as a whole or not at all. */
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { V3mError } from "../errors.js";
import { bandwidthPlot, latencyPlot } from "./plot.js";
import { reportHtml } from "./report.js";
import type { NetBenchResult } from "./result.js";

/** @param text what a terminal was shown. @returns their paths. @throws V3mError E_IO */
export async function writeFiles(directory: string, result: NetBenchResult, text: string): Promise<string[]> {
  const contents = {
    "bench-net.json": `${JSON.stringify(result, null, 2)}\n`,
    "bench-net.txt": `${text}\n`,
    "latency.svg": latencyPlot(result),
    "bandwidth.svg": bandwidthPlot(result),
    "report.html": reportHtml(result),
  };
  const paths: string[] = [];
  for (const [name, data] of Object.entries(contents)) {
    const path = join(resolve(directory), name);
    const temporary = `${path}.${process.pid}.tmp`;
    try {
      await mkdir(directory, { recursive: true });
      await writeFile(temporary, data, { flag: "wx" });
      await rename(temporary, path);
    } catch (cause) {
      await rm(temporary, { force: true }).catch(() => {}); // nothing may be there, not even the directory
      throw new V3mError("E_IO", `cannot write ${path}: ${(cause as Error).message}`, {
        hint: "check the directory of --out",
        cause,
      });
    }
    paths.push(path);
  }
  return paths;
}
