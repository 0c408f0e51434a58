// SPDX-License-Identifier: Apache-2.0
/** Where packages come from where a set does not say: what this host's own apt uses. */
import { readFile } from "node:fs/promises";
import { ImageError } from "../../images/errors.js";
import { runTool, TOOLS } from "../../images/tools.js";
import type { PackageSet } from "./load.js";

export interface Sources {
  readonly suite: string;
  /** Lines of sources.list. */
  readonly lines: readonly string[];
}

async function hostRelease(): Promise<string | undefined> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  if (!/^ID=debian$/m.test(release)) return undefined;
  return /^VERSION_CODENAME=(\w+)$/m.exec(release)?.[1];
}

/** Mirrors of a release that apt knows here: nothing of other vendors. */
async function hostMirrors(suite: string): Promise<string[]> {
  const format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
  const listed = await runTool(TOOLS.apt, ["indextargets", "--format", format, "Created-By: Packages"]);
  const ours = new RegExp(`^\\S+ ${suite.replaceAll(".", "\\.")}(-updates|-security)? main$`);
  return [...new Set(listed.split("\n"))].filter((line) => ours.test(line)).sort();
}

/** @throws ImageError E_UNSUPPORTED where neither the set nor the host says */
export async function sourcesOf(set: PackageSet): Promise<Sources> {
  const suite = set.suite ?? (await hostRelease());
  if (suite === undefined) {
    throw new ImageError(
      "E_UNSUPPORTED",
      `the set ${set.name} names no release, and this host is no Debian`,
      {
        hint: "give the set suite and repositories",
      },
    );
  }
  if (set.repositories.length > 0) return { suite, lines: set.repositories };
  const mirrors = await hostMirrors(suite);
  if (mirrors.length === 0) {
    throw new ImageError("E_UNSUPPORTED", `apt knows no mirror of ${suite}`, {
      hint: "give the set repositories, or run apt-get update",
    });
  }
  return { suite, lines: mirrors.map((line) => `deb ${line}`) };
}

/** apt's proxy as variables, which do not end up in the image as its configuration would. */
export async function aptProxy(): Promise<NodeJS.ProcessEnv> {
  const asked = ["shell", "http", "Acquire::http::Proxy", "https", "Acquire::https::Proxy"];
  const text = await runTool("apt-config", asked).catch(() => "");
  const found = [...text.matchAll(/^(http|https)='([^']+)'$/gm)];
  return Object.fromEntries(found.map(([, scheme, url]) => [`${scheme}_proxy`, url]));
}
