/** The host machine: the same QEMU machine as `amd`, but on the host's own, real nested virtualization. */
import { QemuMachine } from "../amd/machine.js";
import { TestbedError } from "../common/errors.js";
import type { TestbedMachine } from "../testbed.js";
import { hostVirtualization } from "./detect.js";

export const machine: TestbedMachine = new QemuMachine("host", async () => {
  const found = await hostVirtualization();
  if (!found.usable) {
    throw new TestbedError("E_UNSUPPORTED", `no nested virtualization on this host: ${found.reason}`, {
      hint: "use --cpu amd or --cpu intel, which need none",
    });
  }
  return {
    accelerator: "kvm",
    cpu: "host",
    kvmModules: [found.vendor === "amd" ? "kvm_amd" : "kvm_intel"],
    // Booting is fast on real hardware, and QEMU cannot always save a machine that uses nested virtualization.
    snapshots: false,
  };
});
