/** The AMD machine: emulated by QEMU's TCG, with SVM and nested paging, on any host. */
import type { TestbedMachine } from "../testbed.js";
import { QemuMachine } from "./machine.js";

export const machine: TestbedMachine = new QemuMachine("amd", async () => ({
  // One thread even with several CPUs: with one each, nested KVM hangs in most runs.
  accelerator: "tcg,thread=single,tb-size=512",
  cpu: "max",
  kvmModules: ["kvm_amd"],
  snapshots: true,
}));
