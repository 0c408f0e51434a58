// SPDX-License-Identifier: Apache-2.0
/**
 * Images of package sets for tests, a CD-ROM that installs, and the repository that they are made from: once, kept in the cache.
 *
 *     node dist/test/support/package-images.js
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "../../harness/common/cache.js";
import { installPackages } from "../../src/v3m/packages/install.js";
import { loadPackageSet } from "../../src/v3m/packages/load.js";
import { aptProxy, sourcesOf } from "../../src/v3m/packages/sources.js";
import { installIso } from "./install-iso.js";
import { imagePath, MORE_PACKAGES, repositoryLine, repositoryPath } from "./package-paths.js";

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

/** What mmdebstrap downloads for an installation that is thrown away, and apt-ftparchive's index of it. */
async function makeRepository(to: string): Promise<void> {
  const set = await loadPackageSet("minimal");
  const { suite, lines } = await sourcesOf(set);
  const pool = join(to, "pool");
  const index = join(to, "dists", suite, "main/binary-amd64");
  for (const directory of [pool, index]) mkdirSync(directory, { recursive: true });
  const mmdebstrap = [
    ...["--quiet", "--variant=minbase", "--format=null"],
    ...["--skip=download/empty", "--skip=essential/unlink"],
    '--setup-hook=mkdir -p "$1/var/cache/apt/archives/"',
    `--customize-hook=sync-out /var/cache/apt/archives ${pool}`,
    `--include=${[...set.packages, ...MORE_PACKAGES].join(",")}`,
    suite,
    "-",
    ...lines,
  ];
  // No initramfs: nobody boots it.
  const env = { ...process.env, ...(await aptProxy()), INITRD: "No" };
  execFileSync("mmdebstrap", mmdebstrap, { env, stdio: ["ignore", "ignore", "inherit"] });
  for (const name of ["partial", "lock"]) rmSync(join(pool, name), { recursive: true, force: true });
  const archive = (...args: string[]) => execFileSync("apt-ftparchive", args, { cwd: to });
  writeFileSync(join(index, "Packages"), archive("packages", "pool"));
  // mmdebstrap knows by them which packages are Debian's own.
  const names = Object.entries({ Suite: suite, Codename: suite, Components: "main", Architectures: "amd64" });
  const options = names.flatMap(([key, value]) => ["-o", `APT::FTPArchive::Release::${key}=${value}`]);
  const release = archive(...options, "release", `dists/${suite}`);
  writeFileSync(join(to, "dists", suite, "Release"), release);
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
  for (const name of ["minimal", "compute"]) console.log(await packageImage(name));
  console.log(await installIso());
}
