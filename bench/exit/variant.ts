// SPDX-License-Identifier: Apache-2.0
/** One measurement in a process of its own: `node variant.js raw|worker|callback WARM COUNT` prints nanoseconds an exit. */
import { Kvm, setupRealMode } from "../../src/kvm/index.js";
import { Machine, type MachineOptions } from "../../src/vmm/index.js";
import { devices, elapsed, type Marks, mark, newMarks } from "./device.js";
import { ACCESSES_PER_TURN, DATA_PORT, GUEST_ADDRESS, guestImage, MARK_PORT } from "./guest.js";

const RAM_BYTES = 2 << 20;

/** The loop round KVM_RUN written in TypeScript. */
function raw(image: Uint8Array, marks: Marks): void {
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  try {
    vm.addMemory({ size: RAM_BYTES });
    vm.write(GUEST_ADDRESS, image);
    const vcpu = vm.createVcpu(0);
    setupRealMode(vcpu, { entry: GUEST_ADDRESS });
    let latch = 0;
    for (;;) {
      const exit = vcpu.run();
      if (exit.reason !== "io") throw new Error(`unexpected exit ${exit.reason}`);
      if (exit.port === DATA_PORT) {
        if (exit.direction === "out") latch = exit.data.getUint8(0);
        else exit.data.setUint8(0, latch);
      } else if (exit.port === MARK_PORT) {
        mark(marks);
      } else {
        return;
      }
    }
  } finally {
    vm.close();
    kvm.close();
  }
}

/** libvmmhpc's loop, with the device in TypeScript: in the thread of the vCPU, or called back in this one. */
async function machine(image: Uint8Array, marks: Marks, where: "worker" | "callback"): Promise<void> {
  const options: MachineOptions = {
    kernel: image,
    kind: "flat16",
    loadAddress: GUEST_ADDRESS,
    memory: RAM_BYTES,
    bare: true,
    uart: false,
  };
  const module = new URL("./device.js", import.meta.url);
  const vm = await Machine.create(
    where === "worker" ? { ...options, deviceModules: [{ module, data: marks }] } : options,
  );
  try {
    if (where === "callback") for (const device of devices(marks)) vm.addDevice(device);
    vm.start();
    const info = await vm.wait();
    if (info.state === "crashed") throw new Error(`the guest crashed: ${info.text}`);
  } finally {
    await vm.dispose();
  }
}

const [, , variant, warm, count] = process.argv;
const turns = Number(count);
const image = guestImage(Number(warm), turns);
const marks = newMarks();
if (variant === "raw") raw(image, marks);
else if (variant === "worker" || variant === "callback") await machine(image, marks, variant);
else throw new Error(`no variant ${variant}: raw, worker or callback`);
process.stdout.write(`${(elapsed(marks) / (ACCESSES_PER_TURN * turns)).toFixed(1)}\n`);
