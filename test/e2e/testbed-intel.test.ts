/** v2m-testbed on the Intel machine, from outside: what a user of the command can rely on. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FrameError, FrameReader } from "../../harness/intel/frames.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CLI = join(ROOT, "dist", "harness", "main.js");
/** Generous: everything in the machine is interpreted, and the computer may be busy. */
const LIMIT_MS = 600_000;

interface Outcome {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  /** Resolves when standard output contains `text`. */
  saw(text: string): Promise<void>;
}

/** A private temporary directory: whatever is in it after a run was left behind by that run. */
let temporary: string;
let out: string;

function start(args: readonly string[], input?: Buffer): Running {
  const child = spawn(process.execPath, [CLI, "--cpu", "intel", "--memory", "1024M", ...args], {
    cwd: ROOT,
    env: { ...process.env, TMPDIR: temporary },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on("error", () => {}); // It may end without reading its input.
  child.stdin.end(input);
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() }),
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

/** Processes that work in the private temporary directory. */
async function processesLeft(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (line.includes(temporary)) found.push(line.replaceAll("\0", " "));
  }
  return found;
}

async function expectNothingLeft(): Promise<void> {
  expect(await processesLeft()).toEqual([]);
  expect(await readdir(temporary)).toEqual([]);
}

beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "v3m-test-tmp-"));
  out = await mkdtemp(join(tmpdir(), "v3m-test-out-"));
  const prepared = await start(["--prepare"]).outcome;
  expect(prepared.stderr).not.toContain("error");
  expect(prepared.code).toBe(0);
}, LIMIT_MS);

afterAll(async () => {
  await rm(temporary, { recursive: true, force: true });
  await rm(out, { recursive: true, force: true });
});

/** Creates a virtual machine, for which the kernel must have entered VMX operation. */
const OPEN_KVM = `
  const { openSync, writeFileSync } = await import("node:fs");
  const { default: koffi } = await import("koffi");
  const ioctl = koffi.load("libc.so.6").func("int ioctl(int, unsigned long, long)");
  const kvm = openSync("/dev/kvm", "r+");
  writeFileSync(process.env.V3M_TESTBED_OUT + "/kvm.json", JSON.stringify({
    version: ioctl(kvm, 0xae00, 0),
    created: ioctl(kvm, 0xae01, 0) >= 0,
    node: process.version,
    place: process.env.V3M_TESTBED,
  }));
`;

test(
  "runs a command with streams, exit code, Intel VT, Node, and files that come back",
  async () => {
    const input = randomBytes(150_000);
    const script = [
      "cat",
      "echo to the other stream >&2",
      'grep -cw vmx /proc/cpuinfo >"$V3M_TESTBED_OUT/vmx"',
      'pwd >"$V3M_TESTBED_OUT/pwd"',
      'test -d /sys/kernel/debug/kvm && touch "$V3M_TESTBED_OUT/debugfs"',
      'node --input-type=module -e "$PROGRAM"',
      "exit 7",
    ].join("\n");
    const args = ["--out", out, "--env", `PROGRAM=${OPEN_KVM}`, "--", "sh", "-c", script];
    const result = await start(args, input).outcome;
    expect(result.stderr).toBe("to the other stream\n");
    expect(result.code).toBe(7);
    expect(result.stdout.equals(input)).toBe(true);
    expect(JSON.parse(await readFile(join(out, "kvm.json"), "utf8"))).toEqual({
      version: 12,
      created: true,
      node: process.version,
      place: "intel",
    });
    expect(await readFile(join(out, "pwd"), "utf8")).toBe(`${ROOT.replace(/\/$/, "")}\n`);
    expect((await readFile(join(out, "vmx"), "utf8")).trim()).not.toBe("0");
    expect(await readdir(out)).toContain("debugfs");
    await expectNothingLeft();
  },
  LIMIT_MS,
);

test(
  "two machines at once: one ends by its time limit, the other one by an interrupt that its command sees",
  async () => {
    const limited = start(["--timeout", "30", "--", "sh", "-c", "echo up; sleep 100000"]);
    const interrupted = start([
      "--",
      "sh",
      "-c",
      "trap 'echo asked; exit 9' INT; echo up; sleep 100000 & wait",
    ]);
    await interrupted.saw("up");
    interrupted.child.kill("SIGINT");
    const second = await interrupted.outcome;
    expect(second.stdout.toString()).toBe("up\nasked\n");
    expect(second.code).toBe(9);
    const first = await limited.outcome;
    expect(first.stderr).toContain("did not end within 30 s");
    expect(first.code).toBe(124);
    await expectNothingLeft();
  },
  LIMIT_MS,
);

test(
  "a second interrupt, and the death of the harness, leave nothing behind",
  async () => {
    const stubborn = start(["--", "sh", "-c", "trap '' INT; echo up; sleep 100000"]);
    await stubborn.saw("up");
    stubborn.child.kill("SIGINT");
    await sleep(500);
    stubborn.child.kill("SIGINT");
    expect((await stubborn.outcome).code).toBe(130);
    await expectNothingLeft();

    const killed = start(["--", "sh", "-c", "echo up; sleep 100000"]);
    await killed.saw("up");
    killed.child.kill("SIGKILL");
    await killed.outcome;
    while ((await processesLeft()).length > 0 || (await readdir(temporary)).length > 0) await sleep(100);
  },
  LIMIT_MS,
);

test(
  "a kernel panic inside is reported with the end of the console",
  async () => {
    const result = await start(["--", "sh", "-c", "echo c >/proc/sysrq-trigger"]).outcome;
    expect(result.code).toBe(125);
    expect(result.stderr).toContain("kernel panicked");
    expect(result.stderr).toContain("sysrq triggered crash");
    await expectNothingLeft();
  },
  LIMIT_MS,
);

describe("the machine's channel", () => {
  const sync = Buffer.from("Bochs x86 Emulator\n\u0001V3M-AGENT\u0002", "latin1");
  const frame = Buffer.from([..."VO\u0003\u0000abc"].map((c) => c.charCodeAt(0)));

  test("frames are the same however the stream is cut", () => {
    const stream = Buffer.concat([sync, frame, frame]);
    for (let cut = 0; cut <= stream.length; cut++) {
      const reader = new FrameReader();
      const frames = [...reader.push(stream.subarray(0, cut)), ...reader.push(stream.subarray(cut))];
      expect(frames.map(({ kind, data }) => kind + data.toString())).toEqual(["Oabc", "Oabc"]);
    }
  });

  test("what is no frame is Bochs's own message", () => {
    const reader = new FrameReader();
    reader.push(sync);
    expect(() => reader.push(Buffer.from("Bochs is exiting"))).toThrow(FrameError);
  });
});
