// SPDX-License-Identifier: Apache-2.0
/**
 * Tests say what they need; where it is missing they are skipped, and say why. Names never depend on the
 * place, so that results of several places can be joined in one table; the reason travels in `task.meta`.
 *
 *     suite('dirty log', { needs: ['kvm'] }, () => { it('…', () => { … }); });
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { describe } from "vitest";
import { V3mError } from "../../src/errors.js";
import { Kvm } from "../../src/kvm/index.js";
import { hostFacts, virtualization } from "../../src/vmm/host.js";

/**
 * - `kvm`: /dev/kvm of any kind opens and makes a VM
 * - `linux-guest`: that, with hardware (or emulated hardware) virtualization: stock Linux kernels boot
 * - `lwk`: the same for the lightweight kernel: a KVM without hardware (PVM) cannot run it
 * - `avx2`: guests have AVX2: the CPU has it, and KVM can give XSAVE to guests
 * - `svm`, `vmx`: that, of AMD's or Intel's kind
 * - `triple-fault`: `kvm`, and a guest's triple fault gets to KVM; in the Bochs machine its debugger stops there
 * - `vhost-vsock`: /dev/vhost-vsock is there, or comes when its module is loaded
 * - `root`: effective user id 0
 */
export type Capability =
  | "kvm"
  | "linux-guest"
  | "lwk"
  | "avx2"
  | "svm"
  | "vmx"
  | "triple-fault"
  | "vhost-vsock"
  | "root";

export const CAPABILITIES: readonly Capability[] = [
  "kvm",
  "linux-guest",
  "lwk",
  "avx2",
  "svm",
  "vmx",
  "triple-fault",
  "vhost-vsock",
  "root",
];

declare module "vitest" {
  interface TaskMeta {
    /** What the test needs. */
    needs?: readonly Capability[];
    /** Why it did not run here. */
    skipReason?: string;
  }
}

function cpuFlags(): Set<string> {
  try {
    const line = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    return new Set(line.trim().split(/\s+/));
  } catch {
    return new Set();
  }
}

function tryKvm(): string | undefined {
  try {
    const kvm = Kvm.open();
    try {
      kvm.createVm().close();
    } finally {
      kvm.close();
    }
    return undefined;
  } catch (error) {
    return error instanceof V3mError ? `no usable /dev/kvm: ${error.message}` : String(error);
  }
}

function detect(capability: Capability): string | undefined {
  switch (capability) {
    case "kvm":
      return tryKvm();
    case "linux-guest":
      return (
        missing("kvm") ??
        (cpuFlags().has("svm") || cpuFlags().has("vmx")
          ? undefined
          : "no hardware virtualization: neither svm nor vmx in /proc/cpuinfo")
      );
    case "lwk":
      return (
        missing("kvm") ??
        (virtualization(hostFacts()) === "hardware"
          ? undefined
          : "no virtualization hardware behind /dev/kvm: system calls do not reach a guest's kernel")
      );
    case "avx2":
      return (
        missing("kvm") ??
        (cpuFlags().has("avx2") && hostFacts().xsave_broken === 0
          ? undefined
          : "guests have no AVX2 here: the CPU has none, or its XSAVE does not work in guests")
      );
    case "svm":
    case "vmx":
      return missing("kvm") ?? (cpuFlags().has(capability) ? undefined : `no ${capability} in /proc/cpuinfo`);
    case "triple-fault":
      return (
        missing("kvm") ??
        (process.env.V3M_TESTBED === "intel"
          ? "Bochs stops in its debugger at a guest's triple fault"
          : undefined)
      );
    case "vhost-vsock":
      if (!existsSync("/dev/vhost-vsock")) spawnSync("modprobe", ["vhost_vsock"], { stdio: "ignore" });
      return existsSync("/dev/vhost-vsock") ? undefined : "no /dev/vhost-vsock";
    case "root":
      return process.geteuid?.() === 0 ? undefined : "not root";
  }
}

const found = new Map<Capability, string | undefined>();

/** Why a capability is missing here, or undefined where it is there. */
export function missing(capability: Capability): string | undefined {
  if (!found.has(capability)) {
    found.set(capability, detect(capability));
  }
  return found.get(capability);
}

/** The capabilities of this place. */
export function available(): Capability[] {
  return CAPABILITIES.filter((capability) => missing(capability) === undefined);
}

/** A `describe` that runs where all its needs are met; elsewhere its tests are listed as skipped. */
export function suite(
  name: string,
  options: { readonly needs: readonly Capability[] },
  body: () => void,
): void {
  const reason = options.needs.map(missing).find((why) => why !== undefined);
  const meta = { needs: options.needs, ...(reason === undefined ? {} : { skipReason: reason }) };
  describe(name, { skip: reason !== undefined, meta }, body);
}
