/** The AMD machine: emulated by QEMU's TCG, with SVM and nested paging, on any host. */
import type { TestbedMachine } from "../testbed.js";
import { QemuMachine } from "./machine.js";

export const machine: TestbedMachine = new QemuMachine("amd", async () => ({
  // One thread even with several CPUs: with one each, nested KVM hangs in most runs.
  accelerator: "tcg,thread=single,tb-size=512",
  // Without ERMS: the kernel would clear and copy pages by "rep stosb", which TCG does byte by byte.
  cpu: "max,-erms",
  kvmModules: ["kvm_amd"],
  snapshots: true,
}));
