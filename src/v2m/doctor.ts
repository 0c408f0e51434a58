// SPDX-License-Identifier: Apache-2.0
/** `v2m doctor`: what this host offers, what is missing, and what to type to mend it. */
import { hostFacts, type Virtualization, virtualization } from "../vmm/host.js";
import { allChecks, type Check } from "./doctor-checks.js";
import { Exit } from "./exit-codes.js";
import { table } from "./report.js";

export interface Diagnosis {
  readonly virtualization: Virtualization;
  /** Where Linux guests can run: on this host's KVM, in the nested machine, or nowhere yet. */
  readonly place: "direct" | "nested" | "nowhere";
  readonly advice: string;
  readonly checks: readonly Check[];
}

export function diagnose(kvmPath?: string): Diagnosis {
  const host = hostFacts(kvmPath);
  const absent = kvmPath ?? "/dev/kvm";
  const checks = allChecks(host, `${absent} cannot be opened`, kvmPath);
  const kind = virtualization(host);
  const broken = checks.some((c) => c.level === "missing" && c.name.startsWith("KVM_CAP"));
  const emulator = checks.some((c) => c.name === "nested AMD machine" && c.level === "ok");
  if (kind === "hardware" && !broken) {
    const advice = "Linux guests run here directly: v2m run --kernel …";
    return { virtualization: kind, place: "direct", advice, checks };
  }
  return emulator
    ? {
        virtualization: kind,
        place: "nested",
        advice: "Linux guests run in the nested machine: npx v2m-testbed -- npx v2m run --kernel …",
        checks,
      }
    : {
        virtualization: kind,
        place: "nowhere",
        advice: "install the nested machine: sudo apt-get install qemu-system-x86 busybox-static",
        checks,
      };
}

const MARKS: Readonly<Record<Check["level"], string>> = {
  ok: "ok",
  info: "-",
  warning: "warning",
  missing: "MISSING",
};

/** Extensions that are there are a line together: a list of yeses hides the one no. */
function rows(checks: readonly Check[]): string[][] {
  const good = checks.filter((c) => c.name.startsWith("KVM_CAP_") && c.level === "ok");
  const shown = checks.filter((c) => !good.includes(c));
  const result = shown.flatMap((c) => [
    [MARKS[c.level], c.name, c.value],
    ...(c.hint === undefined || c.level === "ok" ? [] : [["", "", `→ ${c.hint}`]]),
  ]);
  if (good.length > 0) {
    result.push(["ok", "KVM extensions", `${good.length} of those that V3M uses`]);
  }
  return result;
}

/** @returns OK where Linux guests can run directly, HOST where only nested or not at all. */
export function doctor(options: { readonly json?: boolean; readonly kvm?: string }): number {
  const diagnosis = diagnose(options.kvm);
  process.stdout.write(
    options.json === true
      ? `${JSON.stringify(diagnosis, null, 2)}\n`
      : `${table(rows(diagnosis.checks))}\n\n${diagnosis.advice}\n`,
  );
  return diagnosis.place === "direct" ? Exit.OK : Exit.HOST;
}
