// SPDX-License-Identifier: Apache-2.0
/**
 * Package sets on disks: mmdebstrap makes the tree of files, mke2fs the file system of it, in a disk with a GPT. The
 * same set and the same versions of packages give the same bytes: every time, id and order is given.
 */
import { chmod, mkdir, open, writeFile } from "node:fs/promises";
import { makeFileSystem } from "../../images/ext4.js";
import { uuidOf } from "../../images/ids.js";
import { provenance } from "../../images/provenance.js";
import { isRoot, runTool, TOOLS, toolVersions } from "../../images/tools.js";
import type { Input, Provenance } from "../../images/types.js";
import { throwIfAborted } from "../../state/errors.js";
import type { OperationOptions } from "../../vmm/backend.js";
import { MIB, type PackageSet } from "./load.js";
import { quote, STAGE, setupScript } from "./setup-script.js";
import { aptProxy, type Sources, sourcesOf } from "./sources.js";

/** The time of everything in the image: 2024-01-01. */
const EPOCH = 1_704_067_200;
const STEPS = 4;

/**
 * apt gives directories to its own user, or does not, by whether that user could look into the host's directories: so
 * that this makes no difference it stays root here. The file is not taken into the image.
 */
const SANDBOX = "etc/apt/apt.conf.d/00v3m-sandbox";

export interface InstallOptions extends OperationOptions {
  /** A directory for what is needed meanwhile: about three times what the packages take. */
  readonly work: string;
  /** Bytes of the disk, rounded up to 1 MiB. Default: the set's. */
  readonly size?: number;
}

/** Files and scripts, in a tar archive that is unpacked in the new system. */
async function stage(set: PackageSet, work: string): Promise<string> {
  const directory = `${work}/stage${STAGE}`;
  for (const name of ["files", "scripts"]) await mkdir(`${directory}/${name}`, { recursive: true });
  await writeFile(`${directory}/setup`, setupScript(set));
  for (const [i, script] of set.scripts.entries()) await writeFile(`${directory}/scripts/${i}`, script);
  for (const [i, { kind, content }] of set.files.entries()) {
    if (kind === "file") await writeFile(`${directory}/files/${i}`, content);
  }
  const archive = `${work}/stage.tar`;
  const same = ["--sort=name", `--mtime=@${EPOCH}`, "--owner=0", "--group=0", "--numeric-owner"];
  await runTool("tar", ["-C", `${work}/stage`, ...same, "-cf", archive, STAGE.slice(1)]);
  return archive;
}

function mmdebstrapArguments(
  set: PackageSet,
  { suite, lines }: Sources,
  files: string,
  tar: string,
): string[] {
  return [
    "--quiet",
    "--variant=minbase",
    "--format=tar",
    ...(isRoot() ? ["--mode=root"] : []),
    ...(set.packages.length === 0 ? [] : [`--include=${set.packages.join(",")}`]),
    ...set.leaveOut.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    `--setup-hook=mkdir -p "$1/etc/apt/apt.conf.d" && echo 'APT::Sandbox::User "root";' >"$1/${SANDBOX}"`,
    `--customize-hook=tar-in ${quote(files)} /`,
    `--customize-hook=chroot "$1" sh -e ${STAGE}/setup`,
    `--customize-hook=rm -rf "$1"${STAGE}`,
    suite,
    tar,
    ...lines,
  ];
}

/** An empty disk with one partition, from its second MiB to its last but one. */
async function partitioned(path: string, size: number, id: string): Promise<void> {
  const disk = await open(path, "wx", 0o600);
  try {
    await disk.truncate(size);
  } finally {
    await disk.close();
  }
  const sectors = (size - 2 * MIB) / 512;
  const [diskId, partitionId] = [uuidOf(`disk ${id}`), uuidOf(`partition ${id}`)];
  const table = `label: gpt\nlabel-id: ${diskId}\nstart=${MIB / 512}, size=${sectors}, type=L, uuid=${partitionId}\n`;
  await runTool(TOOLS.sfdisk, ["-q", path], { input: table });
}

/** Packages that are in the tree, with their versions. */
async function installed(tar: string): Promise<Input[]> {
  const status = await runTool("tar", ["-xOf", tar, "./var/lib/dpkg/status"]);
  return status
    .split("\n\n")
    .filter((text) => /^Status: install ok installed$/m.test(text))
    .map((text) => {
      const field = (name: string) => new RegExp(`^${name}: (.+)$`, "m").exec(text)?.[1] ?? "?";
      return { name: `package ${field("Package")} ${field("Version")}` };
    });
}

/**
 * Make a raw disk with the system that a set describes: its own kernel in /boot where the set has one, the root file
 * system labelled `root`.
 * @param to must not exist; where it fails the caller removes it
 * @throws ImageError E_UNSUPPORTED (a program is missing), E_IO; AbortedError
 */
export async function installPackages(
  set: PackageSet,
  to: string,
  options: InstallOptions,
): Promise<Provenance> {
  const { work, signal, onProgress } = options;
  const size = Math.ceil((options.size ?? set.size) / MIB) * MIB;
  const step = (done: number, what: string) => {
    throwIfAborted(signal, `making ${set.name}`);
    onProgress?.({ what: `${set.name}: ${what}`, done, total: STEPS });
  };
  step(0, "installing packages");
  const sources = await sourcesOf(set);
  const tar = `${work}/root.tar`;
  // Root's mmdebstrap works below the directory; a user's own is another's in its namespace.
  const temporary = isRoot() ? { TMPDIR: work } : {};
  if (isRoot()) await chmod(work, 0o755); // apt's own user looks into it
  await runTool(TOOLS.mmdebstrap, mmdebstrapArguments(set, sources, await stage(set, work), tar), {
    signal,
    env: { ...(await aptProxy()), ...temporary, SOURCE_DATE_EPOCH: String(EPOCH) },
    asRoot: isRoot(),
  });
  step(1, "reading what was installed");
  const packages = await installed(tar);
  step(2, "making the file system");
  await partitioned(to, size, set.name);
  await makeFileSystem({
    from: tar,
    kind: "tar",
    leaveOut: ["./dev/*", `./${SANDBOX}`],
    image: to,
    offset: MIB,
    bytes: size - 2 * MIB,
    label: "root",
    uuid: uuidOf(`root ${set.name}`),
    hashSeed: uuidOf(`seed ${set.name}`),
    epoch: EPOCH,
    work,
    signal,
  });
  step(STEPS, "made");
  return provenance(set.name, {
    tools: await toolVersions(TOOLS.mmdebstrap, TOOLS.apt, TOOLS.mke2fs, TOOLS.sfdisk),
    inputs: [
      ...set.inputs,
      ...sources.lines.map((line) => ({ name: `repository ${line.replace(/\/\/[^/@\s]+@/, "//")}` })),
      ...packages,
    ],
  });
}
