// SPDX-License-Identifier: Apache-2.0
/** The tables of src/kvm against <linux/kvm.h>. */
import { describe, expect, it } from "vitest";
import * as K from "../../src/kvm/constants.js";
import * as ioctl from "../../src/kvm/ioctl.js";
import * as structs from "../../src/kvm/structs.js";
import { evaluate, expectations, isStruct } from "../support/c-layout.js";

const ask = (expressions: readonly string[]) => evaluate(["<linux/kvm.h>", "<sys/ioctl.h>"], expressions);

function compare(rows: readonly [expression: string, value: bigint][]): void {
  const answers = ask(rows.map(([expression]) => expression));
  const wrong = rows
    .filter(([expression, value]) => answers.get(expression) !== value)
    .map(([expression, value]) => `${expression}: C has ${answers.get(expression)}, the table ${value}`);
  expect(wrong).toEqual([]);
}

describe("structures of <linux/kvm.h>", () => {
  const tables = Object.values<unknown>(structs).filter(isStruct);

  it("have the compiler's sizes and offsets", () => {
    expect(tables.length).toBeGreaterThan(30);
    compare(tables.flatMap((type) => expectations(type)));
  });

  it("have it inside kvm_vcpu_events too", () => {
    const shape = structs.KvmVcpuEvents.decode(new Uint8Array(structs.KvmVcpuEvents.size));
    const rows = Object.entries(shape)
      .filter(([, value]) => typeof value === "object")
      .flatMap(([outer, value]) => Object.keys(value).map((inner) => [outer, inner] as const));
    expect(rows.length).toBeGreaterThan(15);
    // Writing 0xff into one field alone shows where it is.
    compare(
      rows.map(([outer, inner]) => {
        const bytes = structs.KvmVcpuEvents.alloc({ [outer]: { [inner]: 0xff } });
        return [`offsetof(struct kvm_vcpu_events, ${outer}.${inner})`, BigInt(bytes.indexOf(0xff))];
      }),
    );
  });

  it("have it in the union of kvm_run", () => {
    const base = structs.KvmRun.offsets.padding ?? 0;
    compare(
      Object.entries(structs.RunUnion).flatMap(([member, type]) =>
        Object.entries(type.offsets).flatMap(([field, offset]): [string, bigint][] => [
          [`offsetof(struct kvm_run, ${member}.${field})`, BigInt(base + offset)],
          [`sizeof(((struct kvm_run *)0)->${member}.${field})`, BigInt(type.sizes[field] ?? -1)],
        ]),
      ),
    );
    const arch = structs.RunUnion.debug.alloc({ arch: { exception: 0, pc: 0n, dr6: 0xffn, dr7: 0n } });
    compare([["offsetof(struct kvm_run, debug.arch.dr6)", BigInt(base + arch.indexOf(0xff))]]);
  });

  it("have unions where the tables say", () => {
    compare([
      ["offsetof(struct kvm_irq_routing_entry, u.irqchip.pin)", 16n + 4n],
      ["offsetof(struct kvm_irq_routing_entry, u.msi.address_hi)", 16n + 4n],
      ["offsetof(struct kvm_irq_routing_entry, u.msi.data)", 16n + 8n],
      ["offsetof(struct kvm_msrs, entries)", 8n],
      ["offsetof(struct kvm_cpuid2, entries)", 8n],
      ["offsetof(struct kvm_msr_list, indices)", 4n],
      ["offsetof(struct kvm_irq_routing, entries)", 8n],
      ["offsetof(struct kvm_stats_desc, name)", BigInt(structs.KvmStatsDesc.size)],
    ]);
  });
});

describe("numbers of <linux/kvm.h>", () => {
  const table = (prefix: string, values: Readonly<Record<string, number>>) =>
    Object.entries(values).map(([name, value]): [string, bigint] => [`${prefix}${name}`, BigInt(value)]);

  it("ioctls", () => {
    compare([...table("KVM_", ioctl.System), ...table("KVM_", ioctl.Vm), ...table("KVM_", ioctl.Vcpu)]);
  });

  it("capabilities and exit reasons", () => {
    compare([...table("KVM_CAP_", K.Cap), ...table("KVM_EXIT_", K.ExitReason)]);
  });

  it("flags and states", () => {
    compare([
      ["KVM_API_VERSION", BigInt(K.API_VERSION)],
      ["KVM_EXIT_IO_IN", BigInt(K.IO_IN)],
      ["KVM_EXIT_IO_OUT", BigInt(K.IO_OUT)],
      ["KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES", K.EMULATION_FLAG_INSTRUCTION_BYTES],
      ["KVM_CPUID_FLAG_SIGNIFCANT_INDEX", BigInt(K.CPUID_FLAG_SIGNIFCANT_INDEX)],
      ["KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE", BigInt(K.DIRTY_LOG_MANUAL_PROTECT_ENABLE)],
      ["KVM_DIRTY_LOG_INITIALLY_SET", BigInt(K.DIRTY_LOG_INITIALLY_SET)],
      ...table("KVM_INTERNAL_ERROR_", K.InternalError),
      ...table("KVM_SYSTEM_EVENT_", K.SystemEvent),
      ...table("KVM_MEM_", K.Mem),
      ...table("KVM_MP_STATE_", K.MpState),
      ...table("KVM_GUESTDBG_", K.GuestDebug),
      ...table("KVM_VCPUEVENT_VALID_", K.VcpuEventValid),
      ...table("KVM_IOEVENTFD_FLAG_", K.IoEventFdFlag),
      ...table("KVM_IRQFD_FLAG_", K.IrqFdFlag),
      ...table("KVM_IRQ_ROUTING_", K.IrqRouting),
      ...table("KVM_IRQCHIP_", K.Irqchip),
      ...table("KVM_CLOCK_", K.ClockFlag),
      ...table("KVM_STATS_TYPE_", K.StatsType),
    ]);
  });
});
