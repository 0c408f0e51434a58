// SPDX-License-Identifier: Apache-2.0
/** v3m-supervise with small programs: what they say is kept and served whole, how they end is recorded. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { packageRoot } from "../../src/package-root.js";
import { isAlive } from "../../src/v3m/store/process-id.js";
import {
  attach,
  attend,
  endSupervised,
  isRunning,
  programEnded,
  readExit,
  readProcess,
  readRing,
  startSupervised,
} from "../../src/v3m/supervise/index.js";
import { suite } from "../support/capabilities.js";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "v3m-supervise-"));
});
afterEach(async () => {
  await endSupervised(directory);
  rmSync(directory, { recursive: true, force: true });
});

interface Options {
  readonly keep?: number;
  readonly after?: readonly string[];
  readonly log?: string;
}

/** A program in Node.js whose channel is the stream `channel`; it runs until it ends by itself. */
async function start(program: string, { keep = 65_536, after, log }: Options = {}): Promise<void> {
  const source = `const channel = new (require("net").Socket)({ fd: 100 }); ${program}`;
  await using supervised = await startSupervised({
    directory,
    argv: [process.execPath, "-e", source],
    channels: [
      { name: "console", fd: 100, keep, input: true, hold: true, ...(log === undefined ? {} : { log }) },
      { name: "messages", fd: 2, keep: 4096 },
    ],
    sockets: [],
    pass: [],
    ...(after === undefined ? {} : { after }),
  });
  await supervised.release();
}

async function all(stream: Duplex): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("latin1");
}

/** Read until the text is there, and go on listening. */
async function until(stream: Duplex, wanted: string): Promise<string> {
  let text = "";
  await new Promise<void>((resolve, reject) => {
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.includes(wanted)) resolve();
    });
    stream.once("close", () => reject(new Error(`closed; ${wanted} did not come in ${text}`)));
  });
  return text;
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i}\n`).join("");

suite("v3m-supervise", { needs: [] }, () => {
  it("gives all that was kept and then the rest, to each who attaches, and the end", async () => {
    await start(`channel.write("one\\n"); channel.once("data", () => channel.end("two\\n"));`);
    const first = await attach(directory, "console");
    await until(first, "one\n");
    const second = await attach(directory, "console");
    first.write("go on");
    expect(await all(second)).toBe("one\ntwo\n");
    expect(await programEnded(directory, 10_000)).toBe(true);
    // After the end, what was kept.
    expect(await all(await attach(directory, "console"))).toBe("one\ntwo\n");
  });

  it("hears what is typed in the order in which it comes, also from those who go at once", async () => {
    await start(`channel.on("data", (data) => channel.write(data)); channel.write("ready\\n");`);
    const listener = await attach(directory, "console");
    const heard = until(listener, "9999\n");
    const typist = await attach(directory, "console");
    typist.end(numbers(10_000));
    expect(await heard).toBe(`ready\n${numbers(10_000)}`);
  });

  it("holds the program back for a slow listener, and loses nothing", async () => {
    const count = 200_000;
    await start(
      `let i = 0;
       const more = () => { while (i < ${count}) if (!channel.write(i++ + "\\n")) return channel.once("drain", more);
                            channel.end(); };
       channel.once("data", more);`,
      { keep: 8192 },
    );
    const slow = await attach(directory, "console");
    slow.pause();
    slow.write("begin");
    let before = -1;
    for (;;) {
      const { data, dropped } = (await readRing(join(directory, "console.ring"))) ?? { data: "", dropped: 0 };
      if (before > 8192 && data.length + dropped === before) break; // it stands still
      before = data.length + dropped;
      await sleep(100);
    }
    expect(before).toBeLessThan(numbers(count).length);
    expect(await all(slow)).toBe(numbers(count));
  });

  it("keeps the last bytes where nobody listens", async () => {
    await start(`channel.end(${JSON.stringify(numbers(5000))});`, { keep: 4096 });
    await programEnded(directory, 10_000);
    const text = await all(await attach(directory, "console"));
    expect(text).toBe(numbers(5000).slice(-4096));
    const ring = await readRing(join(directory, "console.ring"));
    expect(ring?.dropped).toBe(numbers(5000).length - 4096);
  });

  it("serves more listeners, one after the other, than it takes at a time", async () => {
    await start(`channel.write("here\\n"); channel.on("data", (d) => d.includes("end") && channel.end());`);
    for (let i = 0; i < 100; i++) {
      const stream = await attach(directory, "console");
      await until(stream, "here\n");
      if (i % 2 === 0) stream.end();
      stream.destroy();
    }
    (await attach(directory, "console")).end("end");
    expect(await programEnded(directory, 10_000)).toBe(true);
  });

  it("appends everything to a log", async () => {
    const log = join(directory, "log");
    writeFileSync(log, "before\n");
    await start(`channel.end(${JSON.stringify(numbers(5000))});`, { keep: 4096, log });
    await programEnded(directory, 10_000);
    expect(readFileSync(log, "latin1")).toBe(`before\n${numbers(5000)}`);
  });

  it.each([
    ["a code", "process.exit(7)", { code: 7, signal: undefined }],
    ["a signal", "process.kill(process.pid, 'SIGSEGV')", { code: 0, signal: "SIGSEGV" }],
  ])("records an end with %s, and the last words", async (_what, end, expected) => {
    await start(`console.error("last words"); ${end}`);
    await programEnded(directory, 10_000);
    await endSupervised(directory);
    expect(await readExit(directory)).toMatchObject(expected);
    expect((await readRing(join(directory, "messages.ring")))?.data.toString()).toContain("last words\n");
    expect(existsSync(join(directory, "console.sock"))).toBe(false);
  });

  it("the program ends with its supervisor", async () => {
    await start("setInterval(() => {}, 1000);");
    const record = await readProcess(directory);
    if (record === undefined) throw new Error("no supervisor");
    process.kill(record.supervisor.pid, "SIGKILL");
    expect(await programEnded(directory, 10_000)).toBe(true);
    expect(await readExit(directory)).toBeUndefined();
  });

  it("both end with the command that starts them, if it dies before it is done", async () => {
    const script = join(directory, "starter.mjs");
    const module = join(packageRoot(), "dist/src/v3m/supervise/index.js");
    writeFileSync(
      script,
      `import { startSupervised } from ${JSON.stringify(module)};
       await startSupervised({ directory: ${JSON.stringify(directory)}, argv: ["sleep", "1000"],
         channels: [], sockets: [], pass: [] });
       console.log("started");
       setInterval(() => {}, 1000);`,
    );
    const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const record = await readProcess(directory);
    if (record === undefined) throw new Error("no record");
    expect(isRunning(record)).toBe(true);
    child.kill("SIGKILL");
    while (isRunning(record)) await sleep(10);
  });

  it("is undone where it is not released", async () => {
    const supervised = await startSupervised({
      directory,
      argv: ["sleep", "1000"],
      channels: [],
      sockets: [],
      pass: [],
    });
    const record = await readProcess(directory);
    if (record === undefined) throw new Error("no record");
    await supervised[Symbol.asyncDispose]();
    expect(isAlive(record.program)).toBe(false);
    expect(isAlive(record.supervisor)).toBe(false);
  });

  it("says why it cannot start", async () => {
    const options = { directory, channels: [], sockets: [], pass: [] };
    await expect(startSupervised({ ...options, argv: ["no-such-program"] })).rejects.toMatchObject({
      code: "E_UNSUPPORTED",
      errno: "ENOENT",
    });
    const nowhere = { ...options, directory: join(directory, "nowhere"), argv: ["true"] };
    await expect(startSupervised(nowhere)).rejects.toMatchObject({ code: "E_IO", errno: "ENOENT" });
    const signal = AbortSignal.abort(new Error("not at all"));
    await expect(startSupervised({ ...options, argv: ["true"], signal })).rejects.toThrow("not at all");
  });

  it("becomes another program at the end", async () => {
    const mark = join(directory, "mark");
    await start("process.exit(0)", { after: ["sh", "-c", `echo done >${mark}`] });
    await programEnded(directory, 10_000);
    await endSupervised(directory);
    expect(readFileSync(mark, "utf8")).toBe("done\n");
  });

  it("does not, where a command attends to the end", async () => {
    const mark = join(directory, "mark");
    await start('channel.once("data", () => process.exit(0)); channel.resume();', {
      after: ["sh", "-c", `echo done >${mark}`],
    });
    await attend(directory, true);
    (await attach(directory, "console")).end("go");
    await programEnded(directory, 10_000);
    await endSupervised(directory);
    expect(existsSync(mark)).toBe(false);
  });

  it("takes little memory", () => {
    const size = execFileSync("size", [join(packageRoot(), "native/build/release/v3m-supervise")]);
    const [text, data, bss] = String(size).split("\n")[1]?.trim().split(/\s+/).map(Number) ?? [];
    expect((text ?? 0) + (data ?? 0) + (bss ?? 0)).toBeLessThan(64 << 10);
  });
});
