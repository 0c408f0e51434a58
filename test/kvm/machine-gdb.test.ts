// SPDX-License-Identifier: Apache-2.0
/** gdb on tiny guests: registers, memory, steps, breakpoints, watchpoints, reset, the ways to part. */
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { VmmError } from "../../src/errors.js";
import type { GdbServer } from "../../src/vmm/gdb.js";
import { Machine } from "../../src/vmm/index.js";
import { missing, suite } from "../support/capabilities.js";
import { Gdb, gdbMissing } from "../support/gdb.js";
import { busy, guest, nextReset, Transcript } from "../support/machines.js";

/** A page of the guest that it does not use, and data. */
const CODE = 0x20_0000;
const DATA = 0x30_0000;

/** nop; nop; mov [DATA], al; nop; mov al, [DATA]; nop; jmp $ */
const PROGRAM =
  "{0x90, 0x90, 0x88, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00, 0x90, 0x8a, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00, 0x90, 0xeb, 0xfe}";

/** Where this host's KVM cannot single-step a guest there is no debugging. */
async function unusable(): Promise<string | undefined> {
  if (missing("kvm") !== undefined) return undefined; // said by the suite
  const machine = await Machine.create(busy(0));
  try {
    await machine.gdb({ port: 0 }).dispose();
    return gdbMissing();
  } catch (error) {
    return error instanceof VmmError && error.code === "E_UNSUPPORTED" ? error.message : undefined;
  } finally {
    await machine.dispose();
  }
}

const reason = await unusable();

function gdbSuite(name: string, body: () => void, why = reason): void {
  if (why === undefined) suite(name, { needs: ["kvm"] }, body);
  else describe(name, { skip: true, meta: { needs: ["kvm"], skipReason: why } }, body);
}

const noNetwork = networkInterfaces().lo === undefined ? "no network, not even 127.0.0.1" : undefined;

gdbSuite("gdb on a tiny guest", () => {
  let directory: string;
  let machine: Machine;
  let server: GdbServer;
  let gdb: Gdb;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "v3m-gdb-"));
    machine = await Machine.create(busy(0));
    const transcript = new Transcript(machine);
    server = machine.gdb({ path: join(directory, "socket") });
    machine.start();
    await transcript.until("busy: ready");
    gdb = await Gdb.start();
    await gdb.run(server.command);
  });
  afterAll(async () => {
    await gdb?.kill();
    await machine?.dispose();
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  });
  afterEach(async () => {
    await gdb?.run("delete");
  });

  it("is attached, by a socket that is the user's alone", () => {
    expect(server.attached).toBe(true);
    expect(statSync(server.path ?? "").mode & 0o777).toBe(0o600);
  });

  it("shows the vCPU as a thread, and what the host does", async () => {
    expect(await gdb.run("info threads")).toMatch(/^\* 1 +Thread 1 \(running, 64-bit, ring 0\)/m);
    expect(await gdb.run("monitor info")).toMatch(/1 vCPUs, 16 MiB[\s\S]*vCPU 0: running/);
    expect(await gdb.run("monitor nonsense")).toContain("translate ADDRESS");
  });

  it("reads and writes registers of every kind", async () => {
    for (const [name, value] of [
      ["rax", "0x1122334455667788"],
      ["r15", "0xffffffffffffffff"],
      ["cr2", "0x77000"],
      ["fs_base", "0x12345000"],
      ["k_gs_base", "0x54321000"],
    ] as const) {
      await gdb.run(`set $${name} = ${value}`);
      await gdb.run("maintenance flush register-cache");
      expect(await gdb.value(`$${name}`), name).toBe(BigInt(value));
    }
    await gdb.run("set $xmm3.v4_int32 = {1, 2, 3, 4}");
    await gdb.run("set $st2 = 1.5");
    await gdb.run("maintenance flush register-cache");
    expect(await gdb.run("output $xmm3.v4_int32")).toBe("{1, 2, 3, 4}");
    expect(await gdb.run("output $st2")).toBe("1.5");
    expect(await gdb.value("$cr0 & 0x80000001")).toBe(0x8000_0001n);
    expect(await gdb.value("$efer & 0x400")).toBe(0x400n);
  });

  it("reads and writes memory, across pages, and says where there is none", async () => {
    await gdb.run(`set {unsigned long}${DATA + 0xffc} = 0x1122334455667788`);
    expect(await gdb.value(`*(unsigned long *)${DATA + 0xffc}`)).toBe(0x1122_3344_5566_7788n);
    expect(machine.memory.bytes(BigInt(DATA + 0xffc), 8)[0]).toBe(0x88);
    expect(await gdb.run("x/b 0x80000000")).toContain("Cannot access memory");
    expect(await gdb.run("x/b 0x8000000000000000")).toContain("Cannot access memory");
    expect(await gdb.run(`monitor translate ${DATA.toString(16)}`)).toBe(`0x${DATA.toString(16)}`);
  });

  it("steps, and stops at breakpoints of both kinds", async () => {
    await gdb.run(`set {unsigned char[20]}${CODE} = ${PROGRAM}`);
    await gdb.run(`set $rip = ${CODE}`);
    await gdb.run("stepi");
    expect(await gdb.value("$rip")).toBe(BigInt(CODE + 1));
    for (const kind of ["break", "hbreak"]) {
      await gdb.run(`set $rip = ${CODE}`);
      await gdb.run(`${kind} *${CODE + 2}`);
      expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, 0x0*200002 in/);
      expect(await gdb.value("$rip")).toBe(BigInt(CODE + 2));
      expect(await gdb.run(`x/2bx ${CODE + 2}`)).toMatch(/0x88\s+0x04/);
      await gdb.run("delete");
    }
  });

  it("goes on from a breakpoint, and comes to it again", async () => {
    await gdb.run(`set $rip = ${CODE + 18}`);
    for (const kind of ["break", "hbreak"]) {
      await gdb.run(`${kind} *${CODE + 18}`); // a jump to itself
      for (let i = 0; i < 3; i++) {
        expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, 0x0*200012 in/);
      }
      await gdb.run("delete");
    }
  });

  it("steps and goes on from instructions of one byte, each with a breakpoint", async () => {
    await gdb.run(`break *${CODE}`);
    await gdb.run(`break *${CODE + 1}`);
    await gdb.run(`set $rip = ${CODE}`);
    expect(await gdb.run("continue")).toMatch(/0x0*200000 in/); // gdb did not stop here before
    expect(await gdb.run("stepi")).toMatch(/Breakpoint \d+, 0x0*200001 in/);
    await gdb.run("stepi");
    expect(await gdb.value("$rip")).toBe(BigInt(CODE + 2));
    await gdb.run(`tbreak *${CODE + 9}`);
    await gdb.run(`set $rip = ${CODE}`);
    expect(await gdb.run("continue")).toMatch(/0x0*200000 in/);
    expect(await gdb.run("continue")).toMatch(/0x0*200001 in/);
    expect(await gdb.run("continue")).toMatch(/0x0*200009 in/);
  });

  it("stops behind a write to a watched place", async () => {
    await gdb.run(`set {char}${DATA} = 0`);
    await gdb.run("set $al = 0x55");
    await gdb.run(`set $rip = ${CODE}`);
    await gdb.run(`watch *(char *)${DATA}`);
    expect(await gdb.run("continue")).toMatch(/Old value = 0 [\s\S]*New value = 85/);
    expect(await gdb.value("$rip")).toBe(BigInt(CODE + 9));
  });

  it("stops behind a read of a watched place, or says that this host cannot", async () => {
    await gdb.run(`set $rip = ${CODE + 9}`);
    await gdb.run(`rwatch *(char *)${DATA}`);
    const said = await gdb.run("continue");
    if (server.hardware) {
      expect(said).toContain("Value = 85");
      expect(await gdb.value("$rip")).toBe(BigInt(CODE + 17));
    } else {
      expect(said).toContain("Could not insert hardware watchpoint");
    }
  });

  it("is interrupted", async () => {
    await gdb.run(`set $rip = ${CODE + 18}`);
    gdb.give("continue");
    await new Promise((resolve) => setTimeout(resolve, 500));
    gdb.interrupt();
    expect(await gdb.said()).toContain("SIGINT");
    expect(await gdb.value("$rip")).toBe(BigInt(CODE + 18));
  });

  it("sees a reset: breakpoints live on", async () => {
    await gdb.run("break *0x100000");
    gdb.give("continue");
    await new Promise((resolve) => setTimeout(resolve, 200));
    const reset = nextReset(machine);
    machine.reset();
    await reset;
    expect(await gdb.said()).toMatch(/Breakpoint \d+, 0x0*100000 in/);
  });

  it("takes one gdb at a time, and no other protocol", async () => {
    const other = connect(server.path ?? "");
    await once(other, "close");
    expect(server.attached).toBe(true);
  });

  it("lets the guest go on when gdb is killed; another one can connect", async () => {
    await gdb.run("break *0x100040");
    await gdb.kill();
    while (server.attached) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(machine.state).toBe("running");
    gdb = await Gdb.start();
    await gdb.run(server.command);
    const code = machine.memory.bytes(0x10_0040n, 1)[0];
    expect([0xcc, 0xe6, 0xee]).not.toContain(code);
    expect(await gdb.run("detach")).toContain("detached");
    while (server.attached) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(machine.state).toBe("running");
  });

  it("ends with the server", async () => {
    await gdb.run(server.command);
    await server.dispose();
    await gdb.run("maintenance flush register-cache");
    expect(await gdb.run("info registers rip")).toMatch(/closed|no registers/);
    expect(machine.state).toBe("running");
  });
});

gdbSuite("gdb and a machine's life", () => {
  let directory: string;
  let sockets = 0;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-gdb-"));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  const newSocket = () => join(directory, `socket${sockets++}`);

  it("waits before the first instruction", async () => {
    await using machine = await Machine.create(guest("hello"));
    const transcript = new Transcript(machine);
    const server = machine.gdb({ path: newSocket(), wait: true });
    machine.start();
    await using gdb = await Gdb.start();
    await gdb.run(server.command);
    expect(await gdb.value("$rip")).toBe(0x10_0000n);
    expect(transcript.text).toBe("");
    expect(await gdb.run("continue")).toMatch(/the guest powered off[\s\S]*exited normally/);
    expect(await machine.wait()).toMatchObject({ cause: "poweroff" });
  });

  it("is switched off by kill", async () => {
    await using machine = await Machine.create(busy(0));
    const server = machine.gdb({ path: newSocket() });
    machine.start();
    await using gdb = await Gdb.start();
    await gdb.run(server.command);
    await gdb.run("kill");
    expect(await machine.wait()).toMatchObject({ cause: "request" });
  });

  it("is paused and resumed while gdb holds it", async () => {
    await using machine = await Machine.create(busy(0));
    const server = machine.gdb({ path: newSocket() });
    machine.start();
    await using gdb = await Gdb.start();
    await gdb.run(server.command);
    await machine.pause();
    expect(machine.state).toBe("paused");
    gdb.give("stepi"); // has to wait for the other hold
    machine.resume();
    expect(await gdb.said()).toContain("in ?? ()");
    expect(machine.state).toBe("running");
  });

  it("is disposed of while gdb holds it", async () => {
    const machine = await Machine.create(busy(0));
    const server = machine.gdb({ path: newSocket() });
    machine.start();
    await using gdb = await Gdb.start();
    await gdb.run(server.command);
    await machine.dispose();
  });

  it("refuses what is wrong", async () => {
    await using machine = await Machine.create(busy(0));
    expect(() => machine.gdb({ port: 70_000 })).toThrow(/not a TCP port/);
    expect(() => machine.gdb({ path: "x".repeat(108) })).toThrow(/not the path of a socket/);
    expect(() => machine.gdb({ path: "/nowhere/socket" })).toThrow(/cannot listen/);
    await using server = machine.gdb();
    expect(() => machine.gdb()).toThrow(/a debugger already/);
    expect(server.attached).toBe(false);
  });
});

gdbSuite("gdb on two vCPUs", () => {
  it("shows two threads; one is stepped, the other stands", async () => {
    const path = join(tmpdir(), `v3m-gdb-${process.pid}`);
    await using machine = await Machine.create(busy(0, { cpus: 2 }));
    const server = machine.gdb({ path });
    const transcript = new Transcript(machine);
    machine.start();
    await transcript.until("busy: ready");
    await using gdb = await Gdb.start();
    await gdb.run(server.command);
    const threads = await gdb.run("info threads");
    expect(threads).toMatch(/^\* 1 +Thread 1 \(running/m);
    expect(threads).toMatch(/^ {2}2 +Thread 2 \(not started/m);
    const other = await gdb.run("thread apply 2 output/x $rip");
    await gdb.run("stepi");
    expect(await gdb.run("thread apply 2 output/x $rip")).toBe(other);
  });
});

gdbSuite(
  "gdb over TCP",
  () => {
    it("is there on 127.0.0.1 only", async () => {
      await using machine = await Machine.create(busy(0));
      const server = machine.gdb({ port: 0 });
      expect(server.port).toBeGreaterThan(0);
      expect(server.command).toBe(`target remote 127.0.0.1:${server.port}`);
      machine.start();
      await using gdb = await Gdb.start();
      await gdb.run(server.command);
      expect(await gdb.run("info threads")).toContain("Thread 1");
      const others = Object.values(networkInterfaces())
        .flat()
        .filter((address) => address?.family === "IPv4" && !address.internal);
      for (const other of others) {
        const socket = connect(server.port ?? 0, other?.address);
        expect((await once(socket, "error"))[0]).toMatchObject({ code: "ECONNREFUSED" });
      }
    });
  },
  reason ?? noNetwork,
);
