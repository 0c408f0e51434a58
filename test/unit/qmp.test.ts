// SPDX-License-Identifier: Apache-2.0
/** The QMP client against servers that behave and servers that don't, and against QEMU itself. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Qmp, type QmpEvent } from "../../src/v3m/backends/qemu/qmp.js";
import { suite } from "../support/capabilities.js";

const GREETING = '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 1}}, "capabilities": []}}\n';

let directory: string;
let path: string;
let server: Server | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "v3m-qmp-"));
  path = join(directory, "qmp.sock");
});
afterEach(() => {
  server?.close();
  server = undefined;
  rmSync(directory, { recursive: true, force: true });
});

/** @param answer what to say to each line that a client says */
async function serve(
  answer: (message: { execute: string; id: number }, socket: Socket) => string,
  greeting = GREETING,
): Promise<void> {
  server = createServer((socket) => {
    socket.on("error", () => {});
    socket.write(greeting);
    let rest = "";
    socket.on("data", (chunk) => {
      const lines = (rest + String(chunk)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) socket.write(answer(JSON.parse(line), socket));
    });
  });
  await new Promise<void>((resolve) => server?.listen(path, resolve));
}

const ok = (id: number, value: unknown = {}) => `${JSON.stringify({ return: value, id })}\n`;

suite("QMP client", { needs: [] }, () => {
  it("gives each command its own answer, in whatever order they come", async () => {
    let held = "";
    await serve(({ execute, id }) => {
      if (execute === "first") {
        held = ok(id, "one");
        return "";
      }
      return execute === "second" ? ok(id, "two") + held : ok(id);
    });
    await using qmp = await Qmp.connect(path);
    expect(qmp.version).toEqual({ major: 7, minor: 2, micro: 1 });
    const answers = await Promise.all([qmp.execute("first"), qmp.execute("second")]);
    expect(answers).toEqual(["one", "two"]);
  });

  it("takes lines in pieces, several at once, and events between", async () => {
    const events: QmpEvent[] = [];
    await serve(({ execute, id }, socket) => {
      if (execute !== "slow") return ok(id);
      const event = '{"event": "STOP", "timestamp": {"seconds": 5, "microseconds": 6}}\n';
      const text = event + ok(id, "ä".repeat(10_000)) + event;
      for (let i = 0; i < text.length; i += 777) socket.write(text.slice(i, i + 777));
      return "";
    });
    await using qmp = await Qmp.connect(path, {}, (event) => events.push(event));
    expect(await qmp.execute("slow")).toBe("ä".repeat(10_000));
    await qmp.execute("another");
    expect(events.map(({ event }) => event)).toEqual(["STOP", "STOP"]);
  });

  it("says what QEMU refused, and why", async () => {
    await serve(({ execute, id }) =>
      execute === "bad"
        ? `${JSON.stringify({ error: { class: "CommandNotFound", desc: "no such thing" }, id })}\n`
        : ok(id),
    );
    await using qmp = await Qmp.connect(path);
    await expect(qmp.execute("bad")).rejects.toMatchObject({
      code: "E_QEMU",
      qemuClass: "CommandNotFound",
      message: expect.stringContaining("no such thing"),
    });
    expect(await qmp.execute("good")).toEqual({});
  });

  it("fails all that is under way when QEMU goes, and what comes later", async () => {
    await serve(({ execute, id }, socket) => {
      if (execute === "die") socket.destroy();
      return execute === "die" || execute === "wait" ? "" : ok(id);
    });
    await using qmp = await Qmp.connect(path);
    const wait = qmp.execute("wait");
    const die = qmp.execute("die");
    await expect(wait).rejects.toMatchObject({ code: "E_CLOSED" });
    await expect(die).rejects.toMatchObject({ code: "E_CLOSED" });
    await expect(qmp.execute("late")).rejects.toMatchObject({ code: "E_CLOSED" });
  });

  it.each([
    ["text", "hello\n"],
    ["a number", "17\n"],
    ["an object of another kind", '{"hello": 1}\n'],
    ["an answer without a number", '{"return": {}}\n'],
  ])("refuses a server that says %s", async (_what, nonsense) => {
    await serve(({ id }) => nonsense + ok(id));
    await expect(Qmp.connect(path)).rejects.toMatchObject({ code: "E_PROTOCOL" });
  });

  it("gives up waiting for an answer when it is aborted; the connection stays good", async () => {
    let heard: () => void = () => {};
    const came = new Promise<void>((resolve) => {
      heard = resolve;
    });
    let late = "";
    await serve(({ execute, id }) => {
      if (execute === "silent") {
        late = ok(id, "too late");
        heard();
        return "";
      }
      return late + ok(id, execute);
    });
    await using qmp = await Qmp.connect(path);
    const abort = new AbortController();
    const silent = qmp.execute("silent", undefined, { signal: abort.signal });
    await came;
    abort.abort(new Error("enough"));
    await expect(silent).rejects.toThrow("enough");
    expect(await qmp.execute("next")).toBe("next");
  });

  it("has a time limit against servers that say nothing", async () => {
    await serve(({ id }) => ok(id), "");
    await expect(Qmp.connect(path, { timeoutMs: 50 })).rejects.toMatchObject({ code: "E_TIMEOUT" });
  });

  it("says so where nobody listens, or the signal was aborted before", async () => {
    await expect(Qmp.connect(path)).rejects.toMatchObject({ code: "E_CLOSED", errno: "ENOENT" });
    const signal = AbortSignal.abort(new Error("not at all"));
    await expect(Qmp.connect(path, { signal })).rejects.toThrow("not at all");
  });

  it("speaks with QEMU, one client after the other", async () => {
    const none = ["-machine", "none", "-nodefaults", "-display", "none"];
    const child = spawn("qemu-system-x86_64", [...none, "-qmp", `unix:${path},server=on,wait=on`], {
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => child.once("close", resolve));
    try {
      let first: Qmp | undefined;
      while (first === undefined) {
        first = await Qmp.connect(path).catch(() => undefined);
        if (child.exitCode !== null) throw new Error("QEMU has ended");
      }
      const second = Qmp.connect(path); // waits until the first has gone
      expect(await first.execute("query-status")).toMatchObject({ running: true });
      first.close();
      await using other = await second;
      expect(other.version.major).toBeGreaterThanOrEqual(7);
      await other.execute("quit").catch(() => {});
      await ended;
    } finally {
      child.kill("SIGKILL");
    }
  });
});
