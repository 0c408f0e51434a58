// SPDX-License-Identifier: Apache-2.0
/** Where package-images.ts puts what it makes; nothing else, since everybody asks for it. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { cacheDir } from "../../harness/common/cache.js";
import { packageRoot } from "../../src/package-root.js";

/** Beside those of the minimal set. */
export const MORE_PACKAGES = ["busybox", "openmpi-bin", "openssh-server", "python3-mpi4py"] as const;

function hashOf(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

const contents = (directory: string, pattern: RegExp) =>
  readdirSync(join(packageRoot(), directory))
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => readFileSync(join(packageRoot(), directory, name), "utf8"));

const sets = () => contents("sets", /\.yaml$/);

/** A directory of Debian packages, with an index: nobody needs the network, and versions stay the same. */
export function repositoryPath(): string {
  return cacheDir("disks", `packages-${hashOf("2", ...sets(), ...MORE_PACKAGES)}`);
}

/** As sources.list has it. */
export function repositoryLine(): string {
  const [suite] = readdirSync(join(repositoryPath(), "dists"));
  return `deb [trusted=yes] copy://${repositoryPath()} ${suite} main`;
}

/** Its list of packages. */
export function repositoryIndex(): string {
  const [suite = ""] = readdirSync(join(repositoryPath(), "dists"));
  return join(repositoryPath(), "dists", suite, "main/binary-amd64/Packages");
}

/** A CD-ROM that installs them. @param recipe what it is made of beside them */
export function isoPath(recipe: string): string {
  return cacheDir("disks", `install-${hashOf(recipe, repositoryPath())}.iso`);
}

/** An image of a set, made by the present code. */
export function imagePath(name: string): string {
  const code = [...contents("src/v3m/packages", /\.ts$/), ...contents("src/images", /^ext4\.ts$/)];
  return cacheDir("disks", `set-${name}-${hashOf(name, ...sets(), ...code, ...MORE_PACKAGES)}.img`);
}
