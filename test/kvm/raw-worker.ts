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
  | { readonly kind: "kicked"; readonly vcpu: SharedVcpu; readonly rounds: Int32Array; readonly goal: number }
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

/** Run until `goal` runs have been ended from outside, counting them where the other thread sees it. */
function kicked(task: Extract<WorkerTask, { kind: "kicked" }>): unknown {
  const vcpu = Vcpu.attach(task.vcpu);
  const reasons = new Set<string>();
  for (let round = 1; round <= task.goal; round++) {
    reasons.add(vcpu.run().reason);
    Atomics.store(task.rounds, 0, round);
    Atomics.notify(task.rounds, 0);
  }
  vcpu.close();
  return [...reasons];
}

function perform(task: WorkerTask): unknown {
  switch (task.kind) {
    case "whole":
      return whole();
    case "kicked":
      return kicked(task);
    default:
      return attached(task);
  }
}

function attached(task: Extract<WorkerTask, { memory: unknown }>): unknown {
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
  parentPort.postMessage(perform(workerData as WorkerTask));
}
