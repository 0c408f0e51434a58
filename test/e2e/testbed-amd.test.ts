/** v2m-testbed on the AMD machine, from outside: what a user of the command can rely on. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CLI = join(ROOT, "dist", "harness", "main.js");
/** Generous: the first run may download a kernel and boot a machine on a busy computer. */
const LIMIT_MS = 300_000;

interface Outcome {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  /** Resolves when standard output contains `text`. */
  saw(text: string): Promise<void>;
}

/** A private temporary directory: whatever is in it after a run was left behind by that run. */
let temporary: string;
let work: string;

beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "v3m-test-tmp-"));
  work = await mkdtemp(join(tmpdir(), "v3m-test-work-"));
  expect((await testbed(["--prepare"])).code).toBe(0);
}, LIMIT_MS);

afterAll(async () => {
  await rm(temporary, { recursive: true, force: true });
  await rm(work, { recursive: true, force: true });
});

function start(args: readonly string[], options: { stdin?: Buffer; cwd?: string } = {}): Running {
  const child = spawn(process.execPath, [CLI, "--cpu", "amd", ...args], {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, TMPDIR: temporary },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on("error", () => {}); // It may end without reading its input.
  child.stdin.end(options.stdin);
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) }),
    );
  });
  const saw = async (text: string): Promise<void> => {
    while (!Buffer.concat(stdout).includes(text)) {
      if (child.exitCode !== null) throw new Error(`ended early: ${Buffer.concat(stderr)}`);
      await sleep(50);
    }
  };
  return { child, outcome, saw };
}

function testbed(args: readonly string[], options: { stdin?: Buffer; cwd?: string } = {}): Promise<Outcome> {
  return start(args, options).outcome;
}

/** Process ids of the direct children, by the kernel's own list. */
async function childrenOf(pid: number): Promise<number[]> {
  const list = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return list.split(" ").filter(Boolean).map(Number);
}

/** Waits until a process is gone (or a zombie that nobody has collected yet). */
async function gone(pid: number): Promise<void> {
  for (;;) {
    const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
    if (status === undefined || /\) [ZX] /.test(status)) return;
    await sleep(50);
  }
}

async function expectNothingLeft(machines: readonly number[]): Promise<void> {
  expect(machines.length).toBeGreaterThan(0);
  for (const pid of machines) await gone(pid);
  expect(await readdir(temporary)).toEqual([]);
}

// Inside a testbed there is no point in emulating another one.
describe.skipIf(process.env.V3M_TESTBED !== undefined)("v2m-testbed --cpu amd", { timeout: LIMIT_MS }, () => {
  test.each([
    ["exit 0", 0],
    ["exit 7", 7],
    ["kill -TERM $$", 143],
    ["kill -KILL $$", 137],
  ])("exit code of %s is %i", async (script, code) => {
    expect((await testbed(["--", "sh", "-c", script])).code).toBe(code);
  });

  test("a command that is not there gives 127, one that is no program 126", async () => {
    expect((await testbed(["--", "v3m-no-such-command"])).code).toBe(127);
    expect((await testbed(["--", "/etc/passwd"])).code).toBe(126);
  });

  test("carries 5 MB of random bytes through both streams, separately", async () => {
    const bytes = randomBytes(5_000_000);
    const path = join(work, "random");
    await writeFile(path, bytes);
    const script = 'cat "$1" & cat "$1" >&2; wait';
    const result = await testbed(["--", "sh", "-c", script, "sh", path]);
    expect(result.code).toBe(0);
    expect(result.stdout.equals(bytes)).toBe(true);
    expect(result.stderr.equals(bytes)).toBe(true);
  });

  test("forwards standard input to its end, NULs and all", async () => {
    const bytes = randomBytes(2_000_000);
    const result = await testbed(["--", "cat"], { stdin: bytes });
    expect(result.code).toBe(0);
    expect(result.stdout.equals(bytes)).toBe(true);
  });

  test("arguments, working directory and environment arrive unchanged", async () => {
    const args = ["a b", "", "'\"$HOME`\\", "zwei\nZeilen", "ü"];
    const script = "console.log(JSON.stringify([process.argv.slice(1), process.cwd(), process.env]))";
    const options = ["--env", "V3M_PROBE=it's = ok"];
    const result = await testbed([...options, "--", process.execPath, "-e", script, "--", ...args], {
      cwd: work,
    });
    const [argv, cwd, env] = JSON.parse(result.stdout.toString()) as [
      string[],
      string,
      Record<string, string>,
    ];
    expect(argv).toEqual(args);
    expect(cwd).toBe(work);
    expect(env).toMatchObject({ V3M_TESTBED: "amd", V3M_PROBE: "it's = ok", PATH: process.env.PATH });
    expect(env).not.toHaveProperty("TMPDIR");
  });

  test("sees the host's files; what it writes stays inside, except in --out", async () => {
    const kept = join(work, "kept");
    await writeFile(join(work, "original"), "before");
    const out = join(work, "out");
    const script = `cd '${work}' && cat original && echo changed > original && touch kept && cat original && echo result > "$V3M_TESTBED_OUT/result"`;
    const result = await testbed(["--out", out, "--", "sh", "-c", script]);
    expect(result.stderr.toString()).toBe("");
    expect(result.stdout.toString()).toBe("beforechanged\n");
    expect(await readFile(join(work, "original"), "utf8")).toBe("before");
    expect(existsSync(kept)).toBe(false);
    expect(await readFile(join(out, "result"), "utf8")).toBe("result\n");
  });

  test("offers AMD-V: a Linux guest boots through /dev/kvm", async () => {
    const kernel = await ensureKernel("cloud");
    const initramfs = await guestInitramfs();
    const append = 'console=ttyS0 quiet panic=-1 v3m.run="uname -r; exit 3"';
    const qemu = `qemu-system-x86_64 -accel kvm -M q35 -m 256 -nodefaults -display none -no-reboot -serial stdio -kernel '${kernel.bzImage}' -initrd '${initramfs}' -append '${append}'`;
    const script = `grep -qw svm /proc/cpuinfo && test -c /dev/kvm && test -d /sys/module/kvm_amd && exec ${qemu}`;
    const result = await testbed(["--no-stdin", "--timeout", "240", "--", "sh", "-c", script]);
    expect(result.stdout.toString()).toContain("V3M-GUEST-READY");
    expect(result.stdout.toString()).toContain(kernel.version);
    expect(result.stdout.toString()).toContain("V3M-GUEST-EXIT 3");
    expect(result.code).toBe(0);
  });

  test("the clock and the random numbers are not those of the saved machine", async () => {
    const script = "date +%s; head -c 16 /dev/urandom | od -An -tx1";
    const before = Date.now() / 1000;
    const results = [
      await testbed(["--", "sh", "-c", script]),
      await testbed(["--", "sh", "-c", script]),
    ].map((result) => result.stdout.toString().split("\n"));
    const after = Date.now() / 1000;
    for (const [seconds] of results) {
      expect(Number(seconds)).toBeGreaterThanOrEqual(Math.floor(before));
      expect(Number(seconds)).toBeLessThanOrEqual(after + 1);
    }
    expect(results[0]?.[1]).not.toBe(results[1]?.[1]);
  });

  test("two machines at once do not meet", async () => {
    const both = await Promise.all(["one", "two"].map((word) => testbed(["--", "echo", word])));
    expect(both.map((result) => result.stdout.toString())).toEqual(["one\n", "two\n"]);
  });

  test("--timeout ends the command with 124 and leaves nothing", async () => {
    // Long enough to be sure that the command has begun: the clock starts with the machine.
    const run = start(["--timeout", "20", "--", "sh", "-c", "echo begun; sleep 1000"]);
    await run.saw("begun");
    const machines = await childrenOf(run.child.pid ?? 0);
    const result = await run.outcome;
    expect(result.code).toBe(124);
    expect(result.stderr.toString()).toContain("E_TIMEOUT");
    await expectNothingLeft(machines);
  });

  test("SIGINT goes to the command, which may end in its own way", async () => {
    const script = "trap 'echo interrupted; exit 9' INT; echo begun; while :; do sleep 0.1; done";
    const run = start(["--", "sh", "-c", script]);
    await run.saw("begun");
    const machines = await childrenOf(run.child.pid ?? 0);
    run.child.kill("SIGINT");
    const result = await run.outcome;
    expect(result.stdout.toString()).toBe("begun\ninterrupted\n");
    expect(result.code).toBe(9);
    await expectNothingLeft(machines);
  });

  test("a second signal ends a command that ignores the first", async () => {
    const run = start(["--", "sh", "-c", "trap '' TERM; echo begun; sleep 1000"]);
    await run.saw("begun");
    const machines = await childrenOf(run.child.pid ?? 0);
    run.child.kill("SIGTERM");
    await sleep(200);
    run.child.kill("SIGTERM");
    expect((await run.outcome).code).toBe(143);
    await expectNothingLeft(machines);
  });

  test("the machine dies with a testbed that is killed", async () => {
    const run = start(["--", "sh", "-c", "echo begun; sleep 1000"]);
    await run.saw("begun");
    const machines = await childrenOf(run.child.pid ?? 0);
    run.child.kill("SIGKILL");
    await run.outcome;
    await expectNothingLeft(machines);
  });

  test("a reader that goes away ends it", async () => {
    const run = start(["--", "yes"]);
    await run.saw("y");
    const machines = await childrenOf(run.child.pid ?? 0);
    run.child.stdout?.destroy();
    expect((await run.outcome).code).toBe(141);
    await expectNothingLeft(machines);
  });

  test("a kernel panic is reported with the console, exit code 125", async () => {
    const result = await testbed(["--", "sh", "-c", "echo c > /proc/sysrq-trigger"]);
    expect(result.code).toBe(125);
    expect(result.stderr.toString()).toMatch(/E_CRASH[\s\S]*Kernel panic/);
  });

  test.each([
    [["--memory", "1M", "--", "true"], "--memory 1M"],
    [["--cpus", "0", "--", "true"], "--cpus 0"],
    [["--timeout", "never", "--", "true"], "--timeout never"],
    [["--out", "/proc/v3m", "--", "true"], "--out /proc/v3m"],
    [["--env", "1=2", "--", "true"], "--env 1=2"],
    [["--bogus"], "--bogus"],
  ])("refuses %j with 125, a message and a hint", async (args, text) => {
    const result = await testbed(args);
    expect(result.code).toBe(125);
    expect(result.stderr.toString()).toContain(text);
    expect(result.stderr.toString()).toContain("hint:");
    expect(result.stdout.length).toBe(0);
  });
});
