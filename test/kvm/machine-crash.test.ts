// SPDX-License-Identifier: Apache-2.0
/** Guests that go wrong: the machine reports it and stops; nobody else is disturbed. */
import { expect, it } from "vitest";
import { formatStopInfo, Machine, type MachineOptions } from "../../src/vmm/index.js";
import { missing, suite } from "../support/capabilities.js";
import { busy, finish, guest, PATIENCE, run, Transcript } from "../support/machines.js";
import { LOAD_ADDRESS } from "../support/payloads.js";
import { hex } from "../support/raw-guest.js";

/** A flat guest from hex with comments. */
function code(
  kind: "flat16" | "flat64",
  text: string,
  options: Partial<MachineOptions> = {},
): MachineOptions {
  return { memory: 4 << 20, ...options, kernel: hex(text), kind, loadAddress: LOAD_ADDRESS[kind] };
}

const TRIPLE_FAULT = `
  0f 01 1c 25 20 00 10 00 ; lidt [0x100020]
  b8 78 56 34 12          ; mov eax, 0x12345678
  0f 0b                   ; ud2
  ${"90 ".repeat(17)}     ; up to 0x20
  00 00 00 00 00 00 00 00 00 00`;

suite("guests that go wrong", { needs: ["triple-fault"] }, () => {
  it(
    "a triple fault: registers, code bytes and cause",
    async () => {
      const { info } = await run(code("flat64", TRIPLE_FAULT));
      expect(info).toMatchObject({ state: "crashed", cause: "triple-fault", vcpu: 0, exit: "shutdown" });
      if (info.registers === undefined) {
        expect(missing("svm")).toBeUndefined(); // KVM resets the vCPU on AMD before it tells us
        expect(info.text).toBe("vCPU 0: triple fault; KVM has reset this AMD vCPU, its registers are lost");
        return;
      }
      expect(info.text).toBe("vCPU 0: triple fault (RIP 0x10000d)");
      expect(info.registers).toMatchObject({
        rip: 0x10_000dn,
        rax: 0x1234_5678n,
        efer: 0x500n,
        cr3: 0x9000n,
      });
      expect(Buffer.from(info.code.subarray(0, 4)).toString("hex")).toBe("0f0b9090");
      expect(formatStopInfo(info)).toContain("0f 0b 90 90");
    },
    PATIENCE,
  );

  it(
    "a triple fault after output: the output is all there",
    async () => {
      const { info, output } = await run(guest("triple"));
      expect(output).toBe("triple: now\n");
      expect(info.cause).toBe("triple-fault");
    },
    PATIENCE,
  );

  it(
    "only the vCPU that crashed is named; the others stop",
    async () => {
      const { info, stats } = await run(code("flat64", TRIPLE_FAULT, { cpus: 3 }));
      expect(info).toMatchObject({ state: "crashed", vcpu: 0 });
      expect(stats.vcpus).toHaveLength(3);
    },
    PATIENCE,
  );

  it(
    "a crash is told as events, in order, and the machine can still be looked at",
    async () => {
      await using machine = await Machine.create(guest("triple"));
      const events: string[] = [];
      machine.on("state", (state) => events.push(state));
      machine.on("stop", ({ cause }) => events.push(cause));
      await finish(machine);
      expect(events).toEqual(["running", "crashed", "triple-fault"]);
      expect(machine.state).toBe("crashed");
      expect(machine.stopInfo().cause).toBe("triple-fault");
      expect(machine.memory.read(LOAD_ADDRESS.flat64 + 8, 8).toString("latin1")).toBe("V3MPARM1");
      expect(() => machine.resume()).toThrow(expect.objectContaining({ code: "E_STATE" }));
      expect(() => machine.reset()).toThrow(expect.objectContaining({ code: "E_STATE" }));
      expect(() => machine.start()).toThrow(expect.objectContaining({ code: "E_STATE" }));
      await expect(machine.pause()).rejects.toMatchObject({ code: "E_STATE" });
      await expect(machine.stop()).resolves.toMatchObject({ cause: "triple-fault" });
    },
    PATIENCE,
  );

  it(
    "machines that crash do not disturb one that works",
    async () => {
      await using bystander = await Machine.create(busy(2));
      const transcript = new Transcript(bystander);
      bystander.start();
      await transcript.until("busy: ready\n");
      await Promise.all(
        Array.from({ length: 4 }, async () =>
          expect((await run(guest("triple"))).info.state).toBe("crashed"),
        ),
      );
      expect(bystander.state).toBe("running");
      await bystander.pause();
      bystander.resume();
      expect(await bystander.stop()).toMatchObject({ state: "stopped", cause: "request" });
    },
    PATIENCE,
  );
});

suite("guests that misbehave", { needs: ["kvm"] }, () => {
  it(
    "an instruction that KVM cannot emulate: an internal error",
    async () => {
      // crc32 on memory where no RAM is: the CPU cannot do it, and KVM's emulator does not know it.
      const { info } = await run(
        code("flat64", "b8 00 00 00 d0 f2 0f 38 f1 18 ; mov eax, ...; crc32 ebx, [rax]"),
      );
      expect(info).toMatchObject({
        state: "crashed",
        cause: "internal-error",
        exit: "internal-error",
        suberror: 1,
      });
      expect(info.text).toBe("vCPU 0: KVM cannot emulate the instruction at RIP (RIP 0x100005)");
      expect(info.registers).toMatchObject({ rip: 0x10_0005n, rax: 0xd000_0000n });
      expect(Buffer.from(info.code.subarray(0, 5)).toString("hex")).toBe("f20f38f118");
    },
    PATIENCE,
  );

  it.each([
    ["ports", { targets: 1, firstPort: 0, lastPort: 0xfff }],
    ["LAPIC and IOAPIC", { targets: 6 }],
    ["memory without a device", { targets: 8 }],
  ] as const)(
    "garbage written to every register does no harm: %s",
    async (_what, parameters) => {
      for (const seed of [1n, 0x2545f4914f6cdd1dn]) {
        const { info, output } = await run(guest("garbage", { seed, ...parameters }));
        expect(output, info.text).toMatch(/\ngarbage: ok\n$/);
        expect(info.cause).toBe("poweroff");
      }
    },
    PATIENCE,
  );
});
