// SPDX-License-Identifier: Apache-2.0
/**
 * Images of package sets for tests, and the repository that they are made from: once, kept in the cache.
 *
 *     node dist/test/support/package-images.js      with V3M_TEST_FULL also the compute node
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "../../harness/common/cache.js";
import { installPackages } from "../../src/v3m/packages/install.js";
import { loadPackageSet } from "../../src/v3m/packages/load.js";
import { aptProxy, sourcesOf } from "../../src/v3m/packages/sources.js";
import { imagePath, MORE_PACKAGES, repositoryLine, repositoryPath } from "./package-paths.js";
import { FULL } from "./places.js";

/** Sets of the tests' own that add to those that V3M ships with. */
export const TEST_SETS: Readonly<Record<string, object>> = {
  minimal: { name: "test-minimal", include: ["minimal"] },
  compute: { name: "test-compute", include: ["compute"], packages: ["python3-mpi4py"] },
};

/** Write one of them, with the repository that is here. @returns its path */
export function writeTestSet(name: string, directory: string): string {
  const path = join(directory, `${name}.yaml`);
  writeFileSync(path, JSON.stringify({ ...TEST_SETS[name], repositories: [repositoryLine()] }));
  return path;
}

/** apt-ftparchive's index, of what mmdebstrap has downloaded for an installation that is thrown away. */
async function makeRepository(to: string): Promise<void> {
  const set = await loadPackageSet("minimal");
  const { suite, lines } = await sourcesOf(set);
  mkdirSync(to, { recursive: true });
  const mmdebstrap = [
    ...["--quiet", "--variant=minbase", "--format=null"],
    ...["--skip=download/empty", "--skip=essential/unlink"],
    '--setup-hook=mkdir -p "$1/var/cache/apt/archives/"',
    `--customize-hook=sync-out /var/cache/apt/archives ${to}`,
    `--include=${[...set.packages, ...MORE_PACKAGES].join(",")}`,
    suite,
    "-",
    ...lines,
  ];
  const env = { ...process.env, ...(await aptProxy()) };
  execFileSync("mmdebstrap", mmdebstrap, { env, stdio: ["ignore", "ignore", "inherit"] });
  for (const name of ["partial", "lock"]) rmSync(join(to, name), { recursive: true, force: true });
  writeFileSync(join(to, "Packages"), execFileSync("apt-ftparchive", ["packages", "."], { cwd: to }));
}

/** An image, made at the first call. It is never written to: give a machine an overlay over it. */
export async function packageImage(name: string): Promise<string> {
  await cached(repositoryPath(), makeRepository);
  return await cached(imagePath(name), async (temporary) => {
    const work = mkdtempSync(join(dirname(temporary), "set-work.tmp-"));
    try {
      await installPackages(await loadPackageSet(writeTestSet(name, work)), temporary, { work });
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of FULL ? ["minimal", "compute"] : ["minimal"]) console.log(await packageImage(name));
}
