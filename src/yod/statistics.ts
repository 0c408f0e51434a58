// SPDX-License-Identifier: Apache-2.0
/** Figures of a launch: what the server, the kernel's report, the machine and KVM counted. */
import type { Machine } from "../vmm/machine.js";
import type { KvmStats } from "../vmm/stats.js";
import type { RawReport, RawYodStats } from "./layouts.js";
import { type CallCount, callCounts } from "./report.js";

export interface LaunchStatistics {
  /** From power-on (the first KVM_RUN) to the kernel's entry, to the application's first instruction, to the
   *  end; null where it was not reached. Nanoseconds. */
  readonly entryNs: number | null;
  readonly appNs: number | null;
  readonly endNs: number | null;
  /** TSC ticks from the kernel's entry to the application's first instruction. */
  readonly kernelTicks: number | null;
  /** Guest-caused exits: until the application's first instruction, in all, and by vCPU; null where KVM does
   *  not count (before Linux 5.14). */
  readonly appExits: number;
  readonly guestExits: number | null;
  readonly vcpuExits: readonly number[] | null;
  readonly kvm: KvmStats | null;
  /** System calls that went to the server, those of them that it could not answer at once, and their data. */
  readonly shipped: number;
  readonly waited: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Of the kernel: timer interrupts, switches between threads, most threads at once; null without a report. */
  readonly timerInterrupts: number | null;
  readonly switches: number | null;
  readonly threads: number | null;
  /** System calls that were answered by ENOSYS; those without a number of Linux's are counted in `others`. */
  readonly notProvided: readonly CallCount[];
  readonly notProvidedOthers: number;
  /** All system calls, where `countCalls` was asked for. */
  readonly calls: readonly CallCount[];
}

function kvmStats(machine: Machine): KvmStats | null {
  try {
    return machine.kvmStats();
  } catch {
    return null; // before Linux 5.14
  }
}

/** @param endNs CLOCK_MONOTONIC when the machine had ended */
export function collectStatistics(
  machine: Machine,
  server: RawYodStats,
  report: RawReport | undefined,
  endNs: bigint,
): LaunchStatistics {
  const powerOn = machine.stats().firstRunNs;
  const since = (ns: bigint) => (powerOn === 0n || ns === 0n ? null : Number(ns - powerOn));
  const kvm = kvmStats(machine);
  const vcpuExits = kvm?.vcpus.map((vcpu) => (vcpu.exits ?? 0) - (vcpu.irq_exits ?? 0)) ?? null;
  const ticks = report === undefined || report.tsc_app === 0n ? null : report.tsc_app - report.tsc_entry;
  return {
    entryNs: since(server.entry_ns),
    appNs: since(server.app_ns),
    endNs: since(endNs),
    kernelTicks: ticks === null ? null : Number(ticks),
    appExits: Number(server.app_exits),
    guestExits: kvm?.guestExits ?? null,
    vcpuExits,
    kvm,
    shipped: Number(server.served),
    waited: Number(server.waited),
    bytesRead: Number(server.bytes_read),
    bytesWritten: Number(server.bytes_written),
    timerInterrupts: report === undefined ? null : Number(report.ticks),
    switches: report === undefined ? null : Number(report.switches),
    threads: report?.threads ?? null,
    notProvided: callCounts(report?.not_provided ?? []),
    notProvidedOthers: report?.not_provided_other ?? 0,
    calls: callCounts(report?.calls ?? []),
  };
}
