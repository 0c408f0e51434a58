// SPDX-License-Identifier: Apache-2.0
/** Life cycle: nothing leaks, forgotten objects are collected, threads may share, counters count. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { Backing, Kvm } from "../../src/kvm/index.js";
import { suite } from "../support/capabilities.js";
import { ENTRY, expectExit, hex, kvmResources, runUntil, withGuest } from "../support/raw-guest.js";
import type { WorkerTask } from "./raw-worker.js";

function roundTrip(): void {
  withGuest("e6 10 f4", ({ vm, vcpu }) => {
    vm.addMemory({ gpa: 1 << 20, size: 1 << 20, backing: Backing.MEMFD });
    runUntil(vcpu, "hlt");
  });
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

function startWorker(task: WorkerTask): Promise<unknown> {
  const file = join(packageRoot(), "dist/test/kvm/raw-worker.js");
  if (!existsSync(file)) {
    throw new Error(`${file} is not built: make build`);
  }
  return new Promise((resolve, reject) => {
    const worker = new Worker(file, { workerData: task });
    let result: unknown;
    worker.once("message", (message) => {
      result = message;
    });
    worker.once("error", reject);
    worker.once("exit", () => resolve(result));
  });
}

suite("life cycle", { needs: ["kvm"] }, () => {
  it("200 machines made, run and closed leave no descriptor and no mapping", () => {
    roundTrip();
    const before = kvmResources();
    for (let i = 0; i < 200; i++) {
      roundTrip();
    }
    expect(kvmResources()).toEqual(before);
  });

  it("failures on the way leave none either", () => {
    roundTrip();
    const before = kvmResources();
    for (let i = 0; i < 20; i++) {
      withGuest("f4", ({ vm }) => {
        expect(() => vm.createVcpu(0)).toThrow(expect.objectContaining({ errno: "EEXIST" }));
        expect(() => vm.addMemory({ gpa: 0, size: 4096 })).toThrow();
      });
    }
    expect(kvmResources()).toEqual(before);
  });

  it("a machine that was forgotten is given back once no view of it is left", async () => {
    roundTrip();
    const before = kvmResources();
    let view: Uint8Array | undefined;
    const forget = () => {
      const vm = Kvm.open().createVm();
      view = vm.addMemory({ gpa: 0, size: 1 << 20 }).bytes;
      view[5] = 9;
      vm.createVcpu(0);
    };
    forget();
    expect(kvmResources().fds).toBe(before.fds + 3);
    const open = () => JSON.stringify(kvmResources()) !== JSON.stringify(before);
    for (let i = 0; i < 100 && open(); i++) {
      collectGarbage();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(kvmResources()).toEqual(before);
    expect(view?.[5]).toBe(9); // the view keeps its memory
  });

  it("many machines at once", () => {
    const kvm = Kvm.open();
    const vms = Array.from({ length: 16 }, (_, i) => {
      const vm = kvm.createVm();
      vm.addMemory({ gpa: 0, size: 0x10000 });
      vm.write(ENTRY, hex("e6 10 f4"));
      return { vm, vcpu: vm.createVcpu(0), i };
    });
    kvm.close(); // they live on
    for (const { vcpu, i } of vms) {
      vcpu.setSregs({ cs: { base: 0n, selector: 0 } });
      vcpu.setRegs({ rip: BigInt(ENTRY), rflags: 2n, rax: BigInt(i) });
      expect(expectExit(vcpu.run(), "io").data.getUint8(0)).toBe(i);
    }
    for (const { vm } of vms) {
      vm.close();
    }
  });
});

suite("binary statistics", { needs: ["kvm"] }, () => {
  it("count exits by name", () => {
    withGuest("b9 64 00 e6 10 e2 fc f4 ; 100 writes to port 0x10; hlt", ({ kvm, vm, vcpu }) => {
      if (kvm.checkExtension("BINARY_STATS_FD") === 0) {
        expect(() => vcpu.stats()).toThrow(expect.objectContaining({ code: "E_UNSUPPORTED" }));
        return;
      }
      const before = vcpu.stats();
      runUntil(vcpu, "hlt");
      const after = vcpu.stats();
      expect(Number(after.exits) - Number(before.exits)).toBeGreaterThanOrEqual(1);
      expect(Object.keys(vm.stats()).length).toBeGreaterThan(3);
      expect(after).toHaveProperty("halt_exits");
    });
  });
});

suite("worker threads", { needs: ["kvm"] }, () => {
  it("a whole hypervisor runs in one", async () => {
    expect(await startWorker({ kind: "whole" })).toEqual({ port: 0x10, value: 0x41 });
  });

  it("a vCPU made here runs there, on memory that both see, and is kicked from here", async () => {
    await withGuest("ff 06 00 20 eb fa ; next: inc word [0x2000]; jmp next", async ({ vcpu, ram }) => {
      const done = startWorker({ kind: "run", vcpu: vcpu.share(), memory: ram.memory.share() });
      while (ram.view.getUint16(0x2000, true) === 0) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      vcpu.kick();
      expect(await done).toEqual({ exit: { reason: "intr", kicked: true }, counted: true });
      expect(vcpu.getRegs().rip).toBeGreaterThanOrEqual(BigInt(ENTRY));
    });
  });

  it("no kick is lost, wherever it meets the vCPU", async () => {
    await withGuest("eb fe ; jmp $", async ({ vcpu }) => {
      const goal = 300;
      const rounds = new Int32Array(new SharedArrayBuffer(4));
      const done = startWorker({ kind: "kicked", vcpu: vcpu.share(), rounds, goal });
      done.catch(() => {}); // reported below
      for (let seen = 0; seen < goal; ) {
        vcpu.kick();
        const result = Atomics.wait(rounds, 0, seen, 60_000);
        expect(result, `kick ${seen} was lost`).not.toBe("timed-out");
        seen = Atomics.load(rounds, 0);
      }
      expect(await done).toEqual(["intr"]);
    });
  });

  it("memory stays until the last thread has closed it", async () => {
    let shared: unknown;
    withGuest("f4", ({ ram, vcpu }) => {
      shared = { kind: "late", memory: ram.memory.share(), vcpu: vcpu.share() };
    });
    expect(await startWorker(shared as WorkerTask)).toEqual({ code: "E_CLOSED" });
  });
});
