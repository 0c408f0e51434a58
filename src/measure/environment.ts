// SPDX-License-Identifier: Apache-2.0
/** What somebody needs to know to repeat a measurement: the machine and the versions. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../package-root.js";

export interface Environment {
  readonly date: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly loadAverage: number;
  readonly kernel: string;
  readonly node: string;
  /** First line of `qemu-system-x86_64 --version`, or null. */
  readonly qemu: string | null;
  /** `amd`, `intel` or `host` inside the nested machine, else null. */
  readonly testbed: string | null;
  /** Parameters of the KVM modules that are loaded. */
  readonly kvm: Readonly<Record<string, string>>;
  readonly transparentHugePages: string;
  readonly v3m: string;
  /** The commit, with a plus sign if files differ from it, or null. */
  readonly commit: string | null;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

function output(command: string, ...args: string[]): string | null {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return null;
  }
}

function kvmParameters(): Record<string, string> {
  const found: Record<string, string> = {};
  for (const module of ["kvm", "kvm_amd", "kvm_intel", "kvm_pvm"]) {
    const directory = `/sys/module/${module}/parameters`;
    try {
      for (const name of readdirSync(directory)) found[`${module}.${name}`] = read(join(directory, name));
    } catch {
      // not loaded
    }
  }
  return found;
}

function commit(): string | null {
  const root = packageRoot();
  const head = output("git", "-C", root, "rev-parse", "--short", "HEAD");
  if (head === null) return null;
  return output("git", "-C", root, "status", "--porcelain", "--untracked-files=no") === ""
    ? head
    : `${head}+`;
}

/** The machine that this process runs on, now. */
export function environment(): Environment {
  const version = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as {
    version: string;
  };
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cpus: cpus().length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    loadAverage: loadavg()[0] ?? 0,
    kernel: release(),
    node: process.version,
    qemu: output("qemu-system-x86_64", "--version")?.split("\n")[0] ?? null,
    testbed: process.env.V3M_TESTBED ?? null,
    kvm: kvmParameters(),
    transparentHugePages: read("/sys/kernel/mm/transparent_hugepage/enabled"),
    v3m: version.version,
    commit: commit(),
  };
}
