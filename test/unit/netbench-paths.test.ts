// SPDX-License-Identifier: Apache-2.0
/** Paths of `v2m bench net` by other means: perftest's command lines and output; functions of the host's; refusals. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { pathRefusal } from "../../src/netbench/availability.js";
import { linuxPath } from "../../src/netbench/linux.js";
import {
  isLongEnough,
  messagesFor,
  paceOf,
  parsePerftest,
  perftestWords,
} from "../../src/netbench/perftest.js";
import type { Plan, Request } from "../../src/netbench/plan.js";
import { perftestName, rdmaRefusal } from "../../src/netbench/rdma-files.js";
import { pointOf } from "../../src/netbench/result.js";
import { functionsOf, modulesFor, vfioRefusal } from "../../src/netbench/vfio.js";
import type { BenchNetFlags } from "../../src/v2m/bench-command.js";
import { planBenchNet } from "../../src/v2m/bench-net.js";
import { v2m } from "../support/v2m.js";

const REQUEST: Request = { test: "latency", bytes: 8, ns: 1e9, pairs: 1, wait: "interrupt" };

/** As perftest 6.06 prints it, between guests of the nested machine. */
const LATENCY = `---------------------------------------------------------------------------------------
                    Send Latency Test
 Dual-port       : OFF		Device         : rxe0
 Number of qps   : 1		Transport type : IB
 Connection type : RC		Using SRQ      : OFF
 local address: LID 0000 QPN 0x0011 PSN 0x1c6dd0
---------------------------------------------------------------------------------------
 #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec] 
 8       100          10.50          400.00       20.25  	       25.00       	10.00  		80.00   		400.00 
---------------------------------------------------------------------------------------
`;
const bandwidth = (bytes: number, mebibytes: string, millions: string) => `
 #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]
 ${bytes}          100             0.00               ${mebibytes}   		   ${millions}
---------------------------------------------------------------------------------------
`;

describe("perftest", () => {
  it("is told test, size, number of messages and how to wait", () => {
    expect(perftestWords(REQUEST, 100).join(" ")).toMatch(
      /^timeout -s KILL \d+ ib_send_lat -e -d rxe0 -F -s 8 -n 100$/,
    );
    expect(perftestWords({ ...REQUEST, test: "both", wait: "poll" }, 9).join(" ")).toMatch(
      / ib_send_bw -N -b -d rxe0 -F -s 8 -n 9$/,
    );
  });

  it("is looked for among this host's programs", async () => {
    expect(await perftestName()).toMatch(/^perftest \d+\.\d+$/);
    const empty = mkdtempSync(join(tmpdir(), "v3m-no-tools-"));
    vi.stubEnv("PATH", empty);
    try {
      expect(await rdmaRefusal()).toMatch(/^\w+ is not installed \(apt-get install \w+\)$/);
    } finally {
      vi.unstubAllEnvs();
      rmSync(empty, { recursive: true });
    }
  });

  it("latency: half round trips, of which messages go both ways", () => {
    const sample = parsePerftest(LATENCY, REQUEST, 100);
    const none = { exits: 0, interrupts: 0, cpuNs: 0 };
    const brief = { ...none, samples: [{ ...sample, total: 0 }] };
    expect(pointOf("latency", 8, brief, { ...none, samples: [sample] })).toMatchObject({
      latencyNs: { least: 10_500, p50: 20_250, p99: 80_000, p999: 400_000, most: 400_000, mean: 25_000 },
      messages: 200,
      messagesPerSecond: 40_000,
    });
  });

  it("latency of large messages, whose deviation perftest cannot tell", () => {
    const sample = parsePerftest(LATENCY.replace("10.00", "-nan"), REQUEST, 100);
    expect(sample).toEqual(parsePerftest(LATENCY, REQUEST, 100));
  });

  it.each([
    { test: "stream", bytes: 8, mebibytes: "0.00", millions: "0.000250", rate: 250 },
    { test: "both", bytes: 8, mebibytes: "0.00", millions: "0.000250", rate: 250 },
    { test: "stream", bytes: 1 << 20, mebibytes: "3.21", millions: "0.000003", rate: 3.21 },
    { test: "both", bytes: 1 << 20, mebibytes: "3.21", millions: "0.000003", rate: 3.21 },
  ] as const)("$test of $bytes bytes: the figure with more digits", (given) => {
    const { test, bytes, mebibytes, millions, rate } = given;
    const sample = parsePerftest(bandwidth(bytes, mebibytes, millions), { ...REQUEST, test, bytes }, 100);
    const outcome = { samples: [sample], exits: 0, interrupts: 0, cpuNs: 0 };
    const point = pointOf(test, bytes, outcome, outcome);
    expect(point.messagesPerSecond).toBeCloseTo(rate, 6);
    expect(point.messages).toBe(test === "both" ? 200 : 100);
  });

  it.each([
    ["nothing", "", 100],
    ["an error", "Couldn't connect to 10.93.0.1:18515\n", 100],
    ["other messages than were asked for", LATENCY, 99],
    ["no time", bandwidth(8, "0.00", "0.000000"), 100],
    ["what is no number", LATENCY.replace("25.00", "-nan"), 100],
  ])("output is refused: %s", (_, text, messages) => {
    const test = text.includes("MsgRate") ? "stream" : "latency";
    expect(() => parsePerftest(text, { ...REQUEST, test }, messages)).toThrow(
      expect.objectContaining({ code: "E_GUEST" }),
    );
  });

  it("as many messages as fit in the time, by the pace of those before", () => {
    const sample = parsePerftest(LATENCY, REQUEST, 100);
    expect(paceOf(sample)).toBe(50_000);
    expect(messagesFor(REQUEST, paceOf(sample))).toBe(20_000);
    expect(messagesFor({ ns: 0 }, 50_000)).toBe(8);
    expect(messagesFor({ ns: 1e12 }, 1)).toBe(2_000_000);
    expect(isLongEnough({ ns: 10e6 }, sample)).toBe(true);
    expect(isLongEnough({ ns: 10.1e6 }, sample)).toBe(false);
    expect(isLongEnough({ ns: 1e12 }, { ...sample, count: 2_000_000 })).toBe(true);
  });
});

describe("functions of the host's", () => {
  const INDEX = `# Aliases extracted from modules themselves.
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias virtio:d00000001v* virtio_net
alias usb:v8086p* other
`;

  it("their guests' drivers are found by the kernel's index", () => {
    expect(modulesFor(INDEX, "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00")).toEqual(["e1000e"]);
    expect(modulesFor(INDEX, "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00")).toEqual([
      "virtio_pci",
    ]);
    expect(modulesFor(INDEX, "pci:v00001234d00001111sv00000000sd00000000bc03sc00i00")).toEqual([]);
  });

  const FLAGS: BenchNetFlags = {
    paths: "vfio",
    guests: "linux",
    duration: "1",
    pairs: "1",
    rounds: "1",
    wait: "auto",
  };

  it("are those that were named", () => {
    const plan = planBenchNet({ ...FLAGS, vfio: "01:00.0, 0000:0A:00.1" });
    expect(functionsOf(plan)).toEqual(["0000:01:00.0", "0000:0a:00.1"]);
    expect(planBenchNet(FLAGS).vfio).toBeNull();
  });

  it.each(["01:00.0", "01:00.0,0000:01:00.0", "01:00.0,02:00.0,03:00.0", ","])(
    "two of them: %s is refused",
    (vfio) => {
      expect(() => planBenchNet({ ...FLAGS, vfio })).toThrow(expect.objectContaining({ code: "E_USAGE" }));
    },
  );

  it("that are none are refused, with exit code 2", async () => {
    const { code, stderr } = await v2m("bench", "net", "--paths", "vfio", "--vfio", "eth0,eth1");
    expect(code).toBe(2);
    expect(stderr).toContain('--vfio: "eth0" is not the address of a PCI function');
  });

  it("are refused where there are none, with what to do", async () => {
    expect(await vfioRefusal(undefined)).toContain("--vfio");
    expect(await vfioRefusal(["ffff:ff:1f.6", "ffff:ff:1f.7"])).toBe(
      "there is no PCI function ffff:ff:1f.6 (lspci -D lists them)",
    );
  });
});

describe("paths that guests have not", () => {
  const plan = (guests: Plan["guests"]): Plan => ({
    paths: [],
    guests,
    sizes: [8],
    durationMs: 10,
    pairs: [1],
    rounds: 1,
    wait: "auto",
    vfio: null,
  });
  it.each(["tap", "vhost", "user", "rdma", "vfio"] as const)("the lightweight kernel: %s", async (path) => {
    expect(await pathRefusal(path, plan("lwk"))).toBe("the lightweight kernel has no network");
  });
  it.each(["rdma", "vfio"] as const)("payload guests: %s", async (path) => {
    expect(await pathRefusal(path, plan("payload"))).toBe("payload guests have no driver for it");
  });
  it("two functions are one pair's", () => {
    const path = linuxPath("vfio", []);
    expect(path.refusal({ pairs: 1, wait: "poll" })).toBeUndefined();
    expect(path.refusal({ pairs: 2, wait: "poll" })).toBe("two functions make one pair of guests");
  });
  it.each(["linux", "lwk", "payload"] as const)("%s guests have shm", async (guests) => {
    expect(await pathRefusal("shm", plan(guests))).toBeUndefined();
  });
});
