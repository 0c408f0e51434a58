// SPDX-License-Identifier: Apache-2.0
/** Whether QEMU can run machines on this host. */
import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { promisify } from "node:util";
import type { Probe } from "../../../vmm/backend.js";
import { hostFacts, virtualization } from "../../../vmm/host.js";
import { capabilities } from "./capabilities.js";
import { type QemuKind, qemuProgram } from "./kind.js";

const run = promisify(execFile);

/** `query-stats` and devices in JSON, which the back end needs. */
const OLDEST = [7, 1] as const;

interface Obstacle {
  readonly reason: string;
  readonly hint: string;
}

export async function probeQemu(kind: QemuKind): Promise<Probe> {
  const version = await qemuVersion();
  const obstacle = obstacleOf(version) ?? (kind.accelerator === "kvm" ? await kvmObstacle() : undefined);
  return {
    type: kind.type,
    usable: obstacle === undefined,
    ...obstacle,
    ...(version === undefined ? {} : { version: `QEMU ${version}` }),
    capabilities: capabilities(kind),
  };
}

async function qemuVersion(): Promise<string | undefined> {
  const { stdout } = await run(qemuProgram(), ["--version"]).catch(() => ({ stdout: "" }));
  return /version (\d+\.\d+\.\d+)/.exec(stdout)?.[1];
}

function obstacleOf(version: string | undefined): Obstacle | undefined {
  if (version === undefined) {
    return { reason: `there is no ${qemuProgram()}`, hint: "sudo apt install qemu-system-x86 qemu-utils" };
  }
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])
    ? undefined
    : { reason: `QEMU ${version} is too old`, hint: `install ${OLDEST.join(".")} or newer` };
}

async function kvmObstacle(): Promise<Obstacle | undefined> {
  const failed = await access("/dev/kvm", constants.R_OK | constants.W_OK).then(
    () => undefined,
    (cause: NodeJS.ErrnoException) => cause.code ?? "",
  );
  if (failed === "ENOENT") {
    return { reason: "there is no /dev/kvm", hint: "v2m doctor says why; type Qemu needs no KVM" };
  }
  if (failed !== undefined) {
    return {
      reason: `cannot open /dev/kvm: ${failed}`,
      hint: "sudo usermod -aG kvm $USER, then log in again; type Qemu needs no KVM",
    };
  }
  return virtualization(hostFacts()) === "hardware"
    ? undefined
    : {
        reason: "there is no virtualization hardware behind /dev/kvm: kernels do not run on it",
        hint: "use type Qemu, or npx v2m-testbed",
      };
}
