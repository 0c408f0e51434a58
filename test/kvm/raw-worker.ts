// SPDX-License-Identifier: Apache-2.0
/** The other thread of raw-life.test.ts. Workers run compiled code: dist/test/kvm/raw-worker.js. */
import { parentPort, workerData } from "node:worker_threads";
import {
  Kvm,
  NativeMemory,
  type SharedMemory,
  type SharedVcpu,
  setupRealMode,
  V3mError,
  Vcpu,
} from "../../src/kvm/index.js";

export type WorkerTask =
  | { readonly kind: "whole" }
  | { readonly kind: "run" | "late"; readonly vcpu: SharedVcpu; readonly memory: SharedMemory };

function whole(): unknown {
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  try {
    vm.addMemory({ gpa: 0, size: 0x10000 });
    vm.write(0x1000, [0xb0, 0x41, 0xe6, 0x10, 0xf4]);
    const vcpu = vm.createVcpu(0);
    setupRealMode(vcpu, { entry: 0x1000 });
    const exit = vcpu.run();
    return exit.reason === "io" ? { port: exit.port, value: exit.data.getUint8(0) } : exit;
  } finally {
    vm.close();
    kvm.close();
  }
}

function attached(task: Extract<WorkerTask, { vcpu: unknown }>): unknown {
  try {
    const memory = NativeMemory.attach(task.memory);
    const vcpu = Vcpu.attach(task.vcpu);
    const exit = vcpu.run();
    const counted = memory.view.getUint16(0x2000, true) > 0;
    vcpu.close();
    memory.close();
    return { exit, counted };
  } catch (error) {
    return { code: error instanceof V3mError ? error.code : String(error) };
  }
}

if (parentPort !== null) {
  const task = workerData as WorkerTask;
  parentPort.postMessage(task.kind === "whole" ? whole() : attached(task));
}
