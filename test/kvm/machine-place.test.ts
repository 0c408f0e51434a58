// SPDX-License-Identifier: Apache-2.0
/** Where a machine's threads run, and how: in this process and in a monitor; and what cannot be had. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { Machine, type MachineOptions } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { busy, finish, guest, nextReset, PATIENCE, run, withRunning } from "../support/machines.js";
import { MonitorPlace } from "../support/monitors.js";
import { currentPlace } from "../support/places.js";

/** A CPU that this process may use, the last one. */
const allowed = () =>
  /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
const CPU = Number(/(\d+)$/.exec(allowed())?.[1]);
const NO_CPU = 4000;

/** Names of a process's threads, with the host CPUs that they may use. */
function threads(pid: number): Map<string, { tid: number; cpus: string }> {
  return new Map(
    readdirSync(`/proc/${pid}/task`).map((tid) => {
      const status = readFileSync(`/proc/${pid}/task/${tid}/status`, "latin1");
      const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
      return [field("Name"), { tid: Number(tid), cpus: field("Cpus_allowed_list") }];
    }),
  );
}

const policy = (tid: number | undefined) => execFileSync("chrt", ["-p", String(tid)], { encoding: "latin1" });

suite("threads of a machine", { needs: ["kvm"] }, () => {
  const place = new MonitorPlace();
  afterAll(() => place.remove());

  it.each(["this process", "a monitor"])(
    "in %s: vCPUs and I/O on their host CPUs",
    async (where) => {
      const options: MachineOptions = { ...busy(1), pin: [CPU], performance: { ioPin: [CPU] } };
      await using machine =
        where === "this process"
          ? await Machine.create(options)
          : await Machine.spawn(options, { directory: place.directory() });
      machine.start();
      const found = threads(machine.monitored ? machine.monitorInfo().pid : process.pid);
      expect(found.get("vcpu0")?.cpus).toBe(String(CPU));
      expect(found.get("vmmhpc-io")?.cpus).toBe(String(CPU));
      await machine.stop();
    },
    PATIENCE,
  );

  it.each(["this process", "a monitor"])(
    "in %s: a host CPU that is not there is refused when it starts, and nothing runs",
    async (where) => {
      for (const more of [{ pin: [NO_CPU] }, { performance: { ioPin: [CPU, NO_CPU] } }]) {
        const options: MachineOptions = { ...busy(1), ...more };
        await using machine =
          where === "this process"
            ? await Machine.create(options)
            : await Machine.spawn(options, { directory: place.directory() });
        expect(() => machine.start()).toThrow(
          expect.objectContaining({
            code: "E_INVALID",
            message: expect.stringContaining(`host CPU ${NO_CPU}`),
          }),
        );
      }
    },
    PATIENCE,
  );

  it(
    "a host NUMA node that is not there is refused",
    async () => {
      const memory = [{ bytes: 16 << 20, numaNode: 63 }];
      await expect(Machine.create({ ...busy(1), memory })).rejects.toMatchObject({
        code: "E_INVALID",
        message: "cannot bind guest memory to NUMA node 63",
      });
    },
    PATIENCE,
  );
});

suite("real-time priority", { needs: ["kvm", "realtime"] }, () => {
  const place = new MonitorPlace();
  afterAll(() => place.remove());

  it.each(["this process", "a monitor"])(
    "in %s: vCPUs and I/O have it",
    async (where) => {
      // A guest that waits: one that computes would have a CPU of the test's own.
      const options: MachineOptions = busy(1, { performance: { realtime: { vcpus: 3, io: 4 } } });
      await using machine =
        where === "this process"
          ? await Machine.create(options)
          : await Machine.spawn(options, { directory: place.directory() });
      machine.start();
      const found = threads(machine.monitored ? machine.monitorInfo().pid : process.pid);
      expect(policy(found.get("vcpu0")?.tid)).toMatch(/SCHED_FIFO[\s\S]*priority: 3/);
      expect(policy(found.get("vmmhpc-io")?.tid)).toMatch(/SCHED_FIFO[\s\S]*priority: 4/);
      await machine.stop();
    },
    PATIENCE,
  );
});

/** A program that starts a machine, and says how that went. */
const PROGRAM = `
  import { Machine } from ${JSON.stringify(join(packageRoot(), "dist/src/vmm/index.js"))};
  const [given, where] = JSON.parse(process.argv[1]);
  const options = { ...given, kernel: Uint8Array.from(given.kernel) };
  const machine = await (where === null ? Machine.create(options) : Machine.spawn(options, where));
  try { machine.start(); console.log("started"); } catch ({ code, message, hint }) { console.log(code, message, hint); }
  await machine.stop().catch(() => {});
  await machine.dispose();
`;

suite("without a right to real-time priority", { needs: ["kvm", "root"] }, () => {
  const place = new MonitorPlace();
  let bare: readonly string[] = [];
  beforeAll(() => {
    bare = ["--bounding-set=-sys_nice,-sys_resource", "--inh-caps=-sys_nice,-sys_resource"];
  });
  afterAll(() => place.remove());

  it.each(["this process", "a monitor"])(
    "in %s: refused when it starts, with the reason",
    (where) => {
      const { kernel, ...options } = guest("hello", {}, { performance: { realtime: { vcpus: 3 } } });
      const given = { ...options, kernel: [...(kernel as Uint8Array)] };
      const at = where === "this process" ? null : { directory: place.directory() };
      const said = execFileSync(
        "prlimit",
        [
          ...["--rtprio=0:0", "setpriv", ...bare, process.execPath, "--input-type=module", "-e", PROGRAM],
          JSON.stringify([given, at]),
        ],
        { encoding: "latin1" },
      );
      expect(said).toMatch(/^E_PERMISSION no right to real-time priority 3: it takes CAP_SYS_NICE/);
    },
    PATIENCE,
  );
});

suite("exits", { needs: ["kvm"] }, () => {
  it(
    "cannot be gone without on host CPUs that others use",
    async () => {
      await expect(
        Machine.create({ ...busy(1), performance: { withoutExits: ["halt"] } }),
      ).rejects.toMatchObject({ code: "E_INVALID", message: expect.stringMatching(/^vCPU 0 is not pinned/) });
    },
    PATIENCE,
  );

  it(
    "for halt and pause are gone without, or the machine is refused",
    async () => {
      const options: MachineOptions = {
        ...guest("halt", { count: 20 }),
        pin: [CPU],
        performance: { withoutExits: ["halt", "pause"] },
      };
      const made = await Machine.create(options).catch((error: unknown) => error);
      if (!(made instanceof Machine)) {
        expect(made).toMatchObject({
          code: "E_UNSUPPORTED",
          message: expect.stringMatching(/DISABLE_EXITS|no virtualization hardware/),
        });
        return;
      }
      await using machine = made;
      const { output } = await finish(machine);
      expect(output).toContain("halt: wake-ups 20");
      expect(machine.kvmStats().total.halt_exits).toBe(0);
    },
    PATIENCE,
  );
});

suite("NUMA nodes", { needs: ["kvm"] }, () => {
  it(
    "are there again after a reset",
    async () => {
      const performance = { numa: [{ cpus: [0] }, { cpus: [1] }] };
      const memory = [
        { bytes: 16 << 20, node: 0 },
        { bytes: 16 << 20, node: 1 },
      ];
      await withRunning(
        busy(2, { cpus: 2, memory, performance }),
        "busy: ready\n",
        async (machine, transcript) => {
          const again = nextReset(machine);
          machine.reset();
          expect(await again).toBe(1);
          await transcript.until("busy: ready\nbusy: ready\n");
          expect(machine.state).toBe("running");
        },
      );
    },
    PATIENCE,
  );

  it(
    "change nothing for a guest that does not look",
    async () => {
      const memory = [
        { bytes: 16 << 20, node: 0 },
        { bytes: 16 << 20, node: 1 },
      ];
      const { output } = await run(
        guest(
          "memory",
          { step: 1 << 20 },
          { memory, cpus: 2, performance: { numa: [{ cpus: [0] }, { cpus: [1] }] } },
        ),
      );
      expect(output).toContain("memory: ok");
    },
    PATIENCE,
  );

  it(
    "are in CPUID on AMD, and with a cache for each core in the leaves of caches",
    async () => {
      const cpus = 4;
      const shown = currentPlace() === "intel" ? 1 : cpus; // there no AP may wait in a loop (see busy())
      const { output } = await run(
        guest(
          "cpuid",
          { cpus: shown },
          {
            ...{ cpus, coresPerSocket: 2, memory: [{ bytes: 16 << 20, node: 1 }] },
            performance: { numa: [{ cpus: [0, 1] }, { cpus: [2, 3] }] },
          },
        ),
      );
      const leaves = [...output.matchAll(/^cpuid (\w+) (\w+) (\w+) (\w+) (\w+) (\w+) (\w+)$/gm)].map(
        (match) => match.slice(1).map((field) => Number.parseInt(field, 16)),
      );
      const nodes = leaves.filter(([, leaf]) => leaf === 0x8000_001e);
      for (const [, , , apicId = 0, , ecx] of nodes) expect(ecx).toBe(apicId >> 1);
      const last = leaves.find(
        ([, leaf, , eax = 0]) => (leaf === 4 || leaf === 0x8000_001d) && ((eax >> 5) & 7) === 3,
      );
      if (last !== undefined) expect(((last[3] ?? 0) >> 14) & 0xfff).toBe(1); // two vCPUs share it
    },
    PATIENCE,
  );

  it("a core in two of them is refused", async () => {
    const numa = [{ cpus: [0] }, { cpus: [1] }];
    await expect(
      Machine.create({ ...busy(1), cpus: 2, threadsPerCore: 2, performance: { numa } }),
    ).rejects.toMatchObject({
      code: "E_INVALID",
      message: expect.stringContaining("first thread of its core"),
    });
  });

  it("are told of to vCPUs that a host has too few CPUs for", async () => {
    const cpus = 2 * availableParallelism();
    const half = Array.from({ length: cpus / 2 }, (_, i) => i);
    const numa = [{ cpus: half }, { cpus: half.map((cpu) => cpu + cpus / 2) }];
    await using machine = await Machine.create({
      ...busy(1),
      cpus,
      coresPerSocket: cpus / 2,
      performance: { numa },
    });
    expect(machine.cpus).toBe(cpus);
  });
});
