// SPDX-License-Identifier: Apache-2.0
/**
 * Tests say what they need; where it is missing they are skipped, and say why. Names never depend on the
 * place, so that results of several places can be joined in one table; the reason travels in `task.meta`.
 *
 *     suite('dirty log', { needs: ['kvm'] }, () => { it('…', () => { … }); });
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe } from "vitest";
import { CARDS } from "../../harness/amd/qemu.js";
import { V3mError } from "../../src/errors.js";
import { Kvm } from "../../src/kvm/index.js";
import { hostFacts, virtualization } from "../../src/vmm/host.js";
import { MemoryCgroup } from "./cgroup.js";
import { JAIL_TEST } from "./jail.js";
import { repositoryPath } from "./package-paths.js";

/**
 * - `kvm`: /dev/kvm of any kind opens and makes a VM
 * - `linux-guest`: that, with hardware (or emulated hardware) virtualization: stock Linux kernels boot
 * - `lwk`: the same for the lightweight kernel: a KVM without hardware (PVM) cannot run it
 * - `avx2`: guests have AVX2: the CPU has it, and KVM can give XSAVE to guests
 * - `svm`, `vmx`: that, of AMD's or Intel's kind
 * - `triple-fault`: `kvm`, and a guest's triple fault gets to KVM; in the Bochs machine its debugger stops there
 * - `vhost-vsock`: /dev/vhost-vsock is there, or comes when its module is loaded
 * - `jail`: the monitor's jail can be entered: user namespaces are allowed, seccomp is there
 * - `memory-cgroup`: a control group (v2) with a limit of memory can be made
 * - `root`: effective user id 0
 * - `private-net`: root in a network that is the tests' own, with tap devices: `make test` runs tests that need it in
 *   a network namespace (V3M_TEST_NETNS), and in the emulated machines
 * - `8021q`: that, and the kernel has VLAN interfaces
 * - `vhost-net`: /dev/vhost-net is there, or comes when its module is loaded
 * - `packages`: root, mmdebstrap, and the repository that package-images.ts makes: on this computer
 * - `realtime`: this process may give threads real-time priority
 * - `hugepages`: pages of 2 MiB can be reserved: in the emulated machines, whose memory is nobody else's
 * - `spare-cards`: an IOMMU, and network cards behind it that nobody needs: in the emulated AMD machine
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
  | "jail"
  | "memory-cgroup"
  | "root"
  | "private-net"
  | "8021q"
  | "vhost-net"
  | "packages"
  | "hugepages"
  | "realtime"
  | "spare-cards";

export const CAPABILITIES: readonly Capability[] = [
  "kvm",
  "linux-guest",
  "lwk",
  "avx2",
  "svm",
  "vmx",
  "triple-fault",
  "vhost-vsock",
  "jail",
  "memory-cgroup",
  "root",
  "private-net",
  "8021q",
  "vhost-net",
  "packages",
  "hugepages",
  "realtime",
  "spare-cards",
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
      return device("/dev/vhost-vsock", "vhost_vsock");
    case "jail": {
      const run = spawnSync(JAIL_TEST, ["--attempt", "none", "control"], { encoding: "utf8" });
      return run.status === 0 ? undefined : (run.error?.message ?? `no jail here: ${run.stdout.trim()}`);
    }
    case "memory-cgroup":
      try {
        new MemoryCgroup(16 << 20).remove();
        return undefined;
      } catch (error) {
        return `no memory cgroup here: ${(error as Error).message}`;
      }
    case "vhost-net":
      return device("/dev/vhost-net", "vhost_net");
    case "root":
      return process.geteuid?.() === 0 ? undefined : "not root";
    case "packages":
      return missing("root") ?? (isEmulatedMachine() ? "takes minutes under emulation" : canInstall());
    case "spare-cards":
      return isEmulatedMachine() && existsSync(`/sys/bus/pci/devices/${CARDS.own.address}/iommu_group`)
        ? undefined
        : "no IOMMU with network cards that nobody needs";
    case "private-net":
      return missing("root") ?? (ownNetwork() ? device("/dev/net/tun", "tun") : "this network is the host's");
    case "8021q":
      return missing("private-net") ?? (canVlan() ? undefined : "this kernel has no VLAN interfaces");
    case "realtime":
      return spawnSync("chrt", ["-f", "1", "true"], { stdio: "ignore" }).status === 0
        ? undefined
        : "no right to real-time priority";
    case "hugepages":
      return (
        missing("root") ??
        (isEmulatedMachine()
          ? reserveHugePages()
          : "left to the emulated machines: it takes this host's memory")
      );
  }
}

function device(path: string, module: string): string | undefined {
  if (!existsSync(path)) spawnSync("modprobe", [module], { stdio: "ignore" });
  return existsSync(path) ? undefined : `no ${path}`;
}

function isEmulatedMachine(): boolean {
  return ["amd", "intel"].includes(process.env.V3M_TESTBED ?? "");
}

function ownNetwork(): boolean {
  return isEmulatedMachine() || (process.env.V3M_TEST_NETNS ?? "") !== "";
}

/** Tried out between two interfaces that go at once. */
function canVlan(): boolean {
  const ip = (...args: string[]) => spawnSync("ip", args, { stdio: "ignore" }).status === 0;
  if (!ip("link", "add", "name", "v3mtry0", "type", "veth", "peer", "name", "v3mtry1")) return false;
  const works = ip("link", "add", "link", "v3mtry0", "name", "v3mtry2", "type", "vlan", "id", "2");
  ip("link", "delete", "v3mtry0");
  return works;
}

function canInstall(): string | undefined {
  // Root of a user namespace with one user in it cannot give files to others.
  const map = readFileSync("/proc/self/uid_map", "utf8").trim().split(/\s+/);
  if (map[2] !== "4294967295") return "root of a user namespace only";
  return existsSync(repositoryPath()) ? undefined : "no repository: node dist/test/support/package-images.js";
}

/** What one guest of the conformance suite has. */
const HUGE_PAGES = 128;

function reserveHugePages(): string | undefined {
  const path = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  try {
    if (Number(readFileSync(`${path}free_hugepages`, "utf8")) < HUGE_PAGES) {
      writeFileSync(`${path}nr_hugepages`, String(HUGE_PAGES));
    }
    const free = Number(readFileSync(`${path}free_hugepages`, "utf8"));
    return free >= HUGE_PAGES ? undefined : `${free} huge pages are free, not ${HUGE_PAGES}`;
  } catch (error) {
    return `no huge pages: ${String(error)}`;
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
