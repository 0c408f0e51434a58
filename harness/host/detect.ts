/** Whether this computer offers real nested virtualization to its guests. */
import { constants } from "node:fs";
import { access, readFile } from "node:fs/promises";

export interface HostVirtualization {
  readonly usable: boolean;
  readonly vendor?: "amd" | "intel";
  /** Why not, and what to do about it. */
  readonly reason?: string;
}

/**
 * A /dev/kvm alone proves nothing: software virtualization (such as PVM) offers one too, without the CPU flag and
 * without the vendor's module.
 */
export async function hostVirtualization(): Promise<HostVirtualization> {
  const flags = /^flags\s*:(.*)$/m.exec(await read("/proc/cpuinfo"))?.[1]?.split(" ") ?? [];
  const vendor = flags.includes("svm") ? "amd" : flags.includes("vmx") ? "intel" : undefined;
  if (!vendor) return { usable: false, reason: "the CPU shows neither svm nor vmx" };
  const module = vendor === "amd" ? "kvm_amd" : "kvm_intel";
  const nested = (await read(`/sys/module/${module}/parameters/nested`)).trim();
  if (nested === "") {
    return { usable: false, vendor, reason: `the module ${module} is not loaded (modprobe ${module})` };
  }
  if (!["1", "Y"].includes(nested)) {
    const hint = `modprobe -r ${module}; modprobe ${module} nested=1`;
    return { usable: false, vendor, reason: `nested virtualization is off (${hint})` };
  }
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return { usable: false, vendor, reason: "/dev/kvm is not accessible (usermod -aG kvm $USER)" };
  }
  return { usable: true, vendor };
}

async function read(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}
