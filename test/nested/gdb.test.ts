// SPDX-License-Identifier: Apache-2.0
/** gdb on whole systems: Debian's kernel, the lightweight kernel and a program on it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { Launched } from "../../src/yod/launch.js";
import { missing, suite } from "../support/capabilities.js";
import { Gdb, gdbMissing } from "../support/gdb.js";
import { LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { currentPlace } from "../support/places.js";
import { start } from "../support/v2m.js";
import { program } from "../support/yod.js";

const noGdb = gdbMissing();

function gdbSuite(name: string, needs: "linux-guest" | "lwk", body: () => void): void {
  if (noGdb === undefined || missing(needs) !== undefined) suite(name, { needs: [needs] }, body);
  else describe(name, { skip: true, meta: { needs: [needs], skipReason: noGdb } }, body);
}

// Bochs takes its time for one.
const CPUS = currentPlace() === "intel" ? 1 : 2;

gdbSuite("gdb on Debian's kernel", "linux-guest", () => {
  let guest: LinuxGuest;
  let gdb: Gdb;
  let directory: string;
  const symbols = new Map<string, string>();
  const at = (name: string) => symbols.get(name) ?? `no ${name}`;

  beforeAll(async () => {
    guest = await LinuxGuest.boot({ cpus: CPUS, append: "nokaslr" });
    const names = "entry_SYSCALL_64|do_sys_openat2|jiffies_64|linux_banner|__x64_sys_getppid|asm_exc_int3";
    for (const line of (await guest.sh(`grep -E ' (${names})$' /proc/kallsyms`)).split("\n")) {
      const [address = "", , name = ""] = line.trim().split(" ");
      symbols.set(name, `0x${address}`);
    }
    guest.type("while :; do cat /proc/uptime > /dev/null; usleep 50000; done &\n");
    directory = mkdtempSync(join(tmpdir(), "v3m-gdb-"));
    const server = guest.machine.gdb({ path: join(directory, "socket") });
    gdb = await Gdb.start();
    await gdb.run(server.command);
  });
  afterAll(async () => {
    await gdb?.kill();
    await guest?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  it("shows each vCPU, and the kernel's memory", async () => {
    const threads = await gdb.run("info threads");
    for (let cpu = 1; cpu <= CPUS; cpu++) {
      expect(threads).toMatch(new RegExp(`Thread ${cpu} \\((running|halted), 64-bit, ring [03]\\)`));
    }
    expect(await gdb.run(`x/s ${at("linux_banner")}`)).toContain("Linux version 6.1.0");
  });

  it("interrupts it", async () => {
    gdb.give("continue");
    await guest.waitFor(/# |$/);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    gdb.interrupt();
    expect(await gdb.said()).toContain("received signal SIGINT");
  });

  it("stops at a hardware breakpoint at the entry for system calls, and steps in it", async () => {
    await gdb.run(`hbreak *${at("entry_SYSCALL_64")}`);
    expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, /);
    expect(await gdb.run("x/i $rip")).toContain("swapgs");
    expect(await gdb.value("$rip")).toBe(BigInt(at("entry_SYSCALL_64")));
    const before = await gdb.value("$gs_base");
    await gdb.run("stepi");
    expect(await gdb.value("$rip")).toBe(BigInt(at("entry_SYSCALL_64")) + 3n);
    expect(await gdb.value("$k_gs_base")).toBe(before);
    await gdb.run("delete");
  });

  it("stops at a software breakpoint again and again, and finishes the function", async () => {
    // Out of the entry code, which Intel CPUs run with the user's page tables: the kernel is not in them.
    await gdb.run(`hbreak *${at("do_sys_openat2")}`);
    await gdb.run("continue");
    await gdb.run("delete");
    await gdb.run(`break *${at("do_sys_openat2")}`);
    for (let i = 0; i < 5; i++) {
      expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, /);
    }
    const back = await gdb.value("*(unsigned long *)$rsp");
    await gdb.run("delete");
    await gdb.run("finish");
    expect(await gdb.value("$rip")).toBe(back);
  });

  it("watches the clock tick", async () => {
    await gdb.run(`watch *(unsigned long *)${at("jiffies_64")}`);
    for (let i = 0; i < 2; i++) {
      const said = await gdb.run("continue");
      const [, before = "", after = ""] = /Old value = (\d+)\s+New value = (\d+)/.exec(said) ?? [];
      expect(BigInt(after)).toBeGreaterThan(BigInt(before));
    }
    await gdb.run("delete");
  });

  it("writes memory that the guest then sees", async () => {
    const text = await gdb.value(`*(char *)(${at("linux_banner")} + 6)`);
    expect(text).toBe(BigInt("version".charCodeAt(0)));
    expect(await gdb.run(`set {char}(${at("linux_banner")} + 6) = 'V'`)).toBe("");
    expect(await gdb.run("detach")).toContain("detached");
    expect(await guest.sh("kill %1 2>/dev/null; cat /proc/version")).toBeTruthy();
  });

  it("has left no trace in the guest", async () => {
    expect(await guest.sh("nproc; sleep 1; echo alive")).toBe(`${CPUS}\nalive`);
    expect(await suspiciousMessages(guest)).toEqual([]);
  });
});

gdbSuite("gdb on the lightweight kernel", "lwk", () => {
  const kernel = join(packageRoot(), "firmware/build/lwk/lwk.debug.elf");
  const app = program("launched.musl");
  let launched: Launched;
  let gdb: Gdb;
  let directory: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "v3m-gdb-"));
    launched = await Launched.prepare({
      app,
      args: ["null"],
      memory: 64n << 20n,
      stdio: [0, 1, 2],
      gdb: { wait: true, path: join(directory, "socket") },
    });
    launched.start();
    gdb = await Gdb.start(kernel);
    const said = await gdb.run(launched.gdb?.command ?? "");
    expect(said).toContain("start_linux");
  });
  afterAll(async () => {
    await gdb?.kill();
    await launched?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  it("is at the first instruction", async () => {
    expect(await gdb.run("info symbol $rip")).toContain("start_linux in section");
  });

  it("stops in a function by its name, before there was paging", async () => {
    await gdb.run("hbreak qk_main");
    expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, qk_main \(kind=\d+, boot_pa=\d+\)/);
    const trace = await gdb.run("backtrace");
    expect(trace).toMatch(/#0 +qk_main[\s\S]*#1 .*start_high/);
    await gdb.run("delete");
  });

  it("steps by lines, and prints variables", async () => {
    await gdb.run("next");
    expect(await gdb.run("info source")).toContain("qk/main.c");
    expect(await gdb.run("output app.started")).toBe("false");
    expect(await gdb.run("output sizeof(app.thread) > 100")).toBe("1");
  });

  it("stops in the kernel on behalf of the program", async () => {
    await gdb.run("break user_syscall if f->rip < 0x10000000");
    expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, user_syscall/);
    expect(await gdb.value("f->cs")).toBe(0x33n);
    await gdb.run("delete");
  });

  it("steps from the kernel into the program, and stops in it", async () => {
    await gdb.run(`add-symbol-file ${app}`);
    await gdb.run("break main");
    expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, main \(argc=2/);
    expect(await gdb.value("$cs & 3")).toBe(3n);
    expect(await gdb.run("output argv[1]")).toContain('"null"');
    await gdb.run("delete");
    await gdb.run("break store_deeply");
    expect(await gdb.run("continue")).toMatch(/store_deeply/);
    expect(await gdb.run("backtrace")).toMatch(/#0 +store_deeply[\s\S]*#1 .*call_store[\s\S]*#2 .*main/);
    await gdb.run("next"); // over a system call
    expect(await gdb.run("info line")).toMatch(/launched\.c/);
    await gdb.run("delete");
  });

  it("sees the exception that ends the program", async () => {
    await gdb.run("break user_trap");
    expect(await gdb.run("continue")).toMatch(/Breakpoint \d+, user_trap/);
    expect(await gdb.value("f->vector")).toBe(14n);
    await gdb.run("delete");
    expect(await gdb.run("continue")).toMatch(/powered off[\s\S]*exited normally/);
    expect(await launched.wait()).toMatchObject({ kind: "fault", name: "SIGSEGV" });
  });
});

gdbSuite("--gdb of v2m", "lwk", () => {
  it("lets gdb decide when the program starts", async () => {
    const directory = mkdtempSync(join(tmpdir(), "v3m-gdb-"));
    try {
      const socket = join(directory, "socket");
      const run = start("yod", "--memory", "64M", "--gdb", socket, "--gdb-wait", "busybox", "echo", "done");
      while (!run.stderr.includes("target remote")) await new Promise((resolve) => setTimeout(resolve, 50));
      expect(run.stderr).toContain(`target remote ${socket}; the guest waits for it`);
      await using gdb = await Gdb.start();
      await gdb.run(`target remote ${socket}`);
      expect(run.stdout).toBe("");
      await gdb.run("detach");
      expect(await run.outcome).toMatchObject({ code: 0, stdout: "done\n" });
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
