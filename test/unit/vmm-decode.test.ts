// SPDX-License-Identifier: Apache-2.0
/** What comes from libvmmhpc as bytes: statistics, stop information, events. No machine is needed. */
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import * as L from "../../src/ffi/layouts.js";
import { readEvents } from "../../src/vmm/event-stream.js";
import { footprint } from "../../src/vmm/footprint.js";
import { decodeStats, exitName } from "../../src/vmm/stats.js";
import { decodeStopInfo, formatStopInfo, stateName } from "../../src/vmm/stop-info.js";

const PAGE = 4096;

/** A statistics page as libvmmhpc lays it out. */
function page(vcpus: number): {
  bytes: Uint8Array;
  view: DataView;
  at: (vcpu: number, offset: number) => number;
} {
  const stride = Math.ceil(L.VmmhpcVcpuStats.size / PAGE) * PAGE;
  const bytes = new Uint8Array(PAGE + vcpus * stride);
  const view = new DataView(bytes.buffer);
  L.VmmhpcStatsPage.write(view, 0, {
    magic: L.STATS_MAGIC,
    version: 1,
    vcpus,
    vcpu_offset: PAGE,
    vcpu_stride: stride,
    exits: L.STATS_EXITS,
    buckets: L.STATS_BUCKETS,
    start_ns: 1_000n,
    first_run_ns: 2n ** 60n,
    resets: 3n,
    console_out: 100n,
    console_dropped: 40n,
    console_in: 7n,
  });
  return { bytes, view, at: (vcpu, offset) => PAGE + vcpu * stride + offset };
}

const field = (name: string) => L.VmmhpcVcpuStats.offsets[name] ?? -1;
const exitAt = (reason: number, name = "count") =>
  field("exits") + reason * L.VmmhpcExitStats.size + (L.VmmhpcExitStats.offsets[name] ?? -1);

describe("statistics page", () => {
  it("of a machine that has done nothing", () => {
    expect(decodeStats(page(2).bytes)).toEqual({
      startNs: 1000n,
      firstRunNs: 2n ** 60n,
      resets: 3,
      console: { out: 100, dropped: 40, in: 7 },
      vcpus: Array(2).fill({
        runs: 0,
        runNs: 0,
        outsideNs: 0,
        kicks: 0,
        unclaimedPio: 0,
        unclaimedMmio: 0,
        exits: [],
      }),
    });
  });

  it("gives each vCPU its own, exits by name, those beyond the last as other", () => {
    const { bytes, view, at } = page(3);
    const put = (vcpu: number, offset: number, value: bigint) =>
      view.setBigUint64(at(vcpu, offset), value, true);
    put(1, field("runs"), 11n);
    put(1, field("run_ns"), 12n);
    put(1, field("outside_ns"), 13n);
    put(1, field("kicks"), 14n);
    put(1, field("unclaimed_pio"), 15n);
    put(1, field("unclaimed_mmio"), 16n);
    put(1, exitAt(2), 5n);
    put(1, exitAt(2, "total_ns"), 500n);
    put(1, exitAt(2, "histogram") + 8 * 6, 4n);
    put(1, exitAt(2, "histogram") + 8 * 31, 1n);
    put(1, exitAt(46), 1n);
    put(2, exitAt(L.STATS_EXITS - 1), 9n);
    const { vcpus } = decodeStats(bytes);
    expect(vcpus[0]?.exits).toEqual([]);
    expect(vcpus[1]).toMatchObject({
      runs: 11,
      runNs: 12,
      outsideNs: 13,
      kicks: 14,
      unclaimedPio: 15,
      unclaimedMmio: 16,
    });
    const histogram = Array(32).fill(0);
    histogram[6] = 4;
    histogram[31] = 1;
    expect(vcpus[1]?.exits).toMatchObject([
      { reason: "io", count: 5, totalNs: 500, histogram },
      { reason: "exit-46", count: 1 },
    ]);
    expect(vcpus[2]?.exits).toMatchObject([{ reason: "other", count: 9 }]);
  });

  it("names exits as KVM does, in lower case", () => {
    expect([2, 6, 8, 10, 17, 24].map(exitName)).toEqual([
      "io",
      "mmio",
      "shutdown",
      "intr",
      "internal-error",
      "system-event",
    ]);
    expect(exitName(9999)).toBe("exit-9999");
  });
});

describe("stop information", () => {
  const encode = (fields: object) => L.VmmhpcStopInfo.decode(L.VmmhpcStopInfo.alloc(fields));

  it("of a machine that powered off is one sentence", () => {
    const info = decodeStopInfo(
      encode({ state: L.State.STOPPED, reason: L.StopReason.POWEROFF, text: "the guest powered off" }),
    );
    expect(info).toMatchObject({ state: "stopped", cause: "poweroff", errno: 0, registers: undefined });
    expect(info.code).toHaveLength(0);
    expect(formatStopInfo(info)).toBe("the guest powered off");
  });

  it("of a crash lists registers and code bytes", () => {
    const info = decodeStopInfo(
      encode({
        state: L.State.CRASHED,
        reason: L.StopReason.TRIPLE_FAULT,
        vcpu: 3,
        exit_reason: 8,
        has_registers: 1,
        rip: 0xffff_ffff_8100_0000n,
        r15: 0x15n,
        cr2: 0xdead_beefn,
        code: [0x0f, 0x0b, 0x90, 0xff],
        code_bytes: 3,
        text: "vCPU 3: triple fault (RIP 0xffffffff81000000)",
      }),
    );
    expect(info).toMatchObject({ state: "crashed", cause: "triple-fault", vcpu: 3, exit: "shutdown" });
    expect([...info.code]).toEqual([0x0f, 0x0b, 0x90]);
    const lines = formatStopInfo(info).split("\n");
    expect(lines[0]).toBe("vCPU 3: triple fault (RIP 0xffffffff81000000)");
    expect(lines[1]).toBe("  rip     ffffffff81000000  rflags  0000000000000000  rax     0000000000000000");
    expect(lines.join("\n")).toContain("r15     0000000000000015");
    expect(lines.join("\n")).toContain("cr2     00000000deadbeef");
    expect(lines.at(-1)).toBe("  code    0f 0b 90");
    expect(Object.keys(info.registers ?? {})).toHaveLength(24);
    for (const line of lines) {
      expect(line.trimEnd()).toBe(line);
    }
  });

  it("knows every state and reason, and takes unknown ones as a crash of no cause", () => {
    expect([0, 1, 2, 3, 4, 5].map(stateName)).toEqual([
      "created",
      "running",
      "paused",
      "stopped",
      "crashed",
      "crashed",
    ]);
    for (const [name, reason] of Object.entries(L.StopReason)) {
      expect(decodeStopInfo(encode({ reason })).cause).toBe(name.toLowerCase().replaceAll("_", "-"));
    }
    expect(decodeStopInfo(encode({ reason: 99 })).cause).toBe("none");
  });
});

describe("event stream", () => {
  const directory = mkdtempSync(join(tmpdir(), "v3m-events-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  it("puts records together however they are cut, and ends with the stream", async () => {
    const path = join(directory, "fifo");
    execFileSync("mkfifo", [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(path, "w");
    const records = Buffer.concat(
      [1n, 2n, 3n, 4n, 5n].map((arg) => L.VmmhpcEvent.alloc({ type: 2, arg, time_ns: arg * 10n })),
    );
    const seen: L.Event[] = [];
    const events = readEvents(reader, (event) => seen.push(event));
    const closed = new Promise((resolve) => events.once("close", resolve));
    const cuts = [0, 1, 23, 24, 49, 50, 100, records.length];
    for (const [i, from] of cuts.slice(0, -1).entries()) {
      writeSync(writer, records.subarray(from, cuts[i + 1]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    writeSync(writer, Buffer.alloc(5)); // what is no whole record is no event
    closeSync(writer);
    await closed;
    expect(seen.map(({ type, arg, time_ns }) => [type, arg, time_ns])).toEqual(
      [1n, 2n, 3n, 4n, 5n].map((arg) => [2, arg, arg * 10n]),
    );
  });
});

describe("memory beside guest RAM", () => {
  it("leaves guest memory out, wherever it overlaps", async () => {
    const directory = mkdtempSync(join(tmpdir(), "v3m-smaps-"));
    const path = join(directory, "smaps");
    const mapping = (from: string, to: string, pss: number, anonymous: number) =>
      `${from}-${to} rw-p 00000000 00:00 0 \nSize: 1 kB\nPss:        ${pss} kB\nPss_Dirty: 9 kB\nAnonymous:  ${anonymous} kB\n`;
    writeFileSync(
      path,
      mapping("1000", "2000", 1, 1) +
        mapping("2000", "4000", 10, 10) + // guest RAM
        mapping("5000", "8000", 100, 100) + // a part of it is
        mapping("7f0000000000", "7f0000001000", 1000, 0),
    );
    const ranges = [
      { from: 0x2000n, to: 0x4000n },
      { from: 0x7000n, to: 0x7800n },
    ];
    expect(await footprint(ranges, path)).toEqual({ pss: 1001 * 1024, anonymous: 1024 });
    expect(await footprint([], path)).toEqual({ pss: 1111 * 1024, anonymous: 111 * 1024 });
    rmSync(directory, { recursive: true });
  });
});
