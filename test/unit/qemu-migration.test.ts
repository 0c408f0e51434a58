// SPDX-License-Identifier: Apache-2.0
/** The stream of a machine's state, against something that takes it as QEMU does. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { loadState } from "../../src/v3m/backends/qemu/migration.js";
import { Qmp } from "../../src/v3m/backends/qemu/qmp.js";
import { suite } from "../support/capabilities.js";

const GREETING = '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 1}}, "capabilities": []}}\n';
/** Enough that it does not fit into the socket. */
const STATE = Buffer.alloc(4 << 20, "state");

let directory: string;
let servers: Server[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "v3m-migration-"));
  servers = [];
  writeFileSync(join(directory, "machine"), STATE);
});
afterEach(() => {
  for (const server of servers) server.close();
  rmSync(directory, { recursive: true, force: true });
});

async function listening(server: Server, path: string): Promise<void> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
}

/** Takes `wanted` bytes of state and closes the socket at once, without waiting for its end. @returns how to look at it */
async function receiver(wanted: number, outcome: object): Promise<{ taken: () => number }> {
  let taken = 0;
  let status: object = { status: "active" };
  const incoming = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      taken += chunk.length;
      if (taken < wanted) return;
      status = outcome;
      socket.destroy();
    });
  });
  const monitor = createServer((socket) => {
    socket.write(GREETING);
    socket.on("data", async (chunk) => {
      for (const line of String(chunk).split("\n").filter(Boolean)) {
        const { execute, id } = JSON.parse(line) as { execute: string; id: number };
        if (execute === "migrate-incoming") await listening(incoming, join(directory, "state.sock"));
        socket.write(`${JSON.stringify({ return: execute === "query-migrate" ? status : {}, id })}\n`);
      }
    });
  });
  await listening(monitor, join(directory, "qmp.sock"));
  return { taken: () => taken };
}

suite("QEMU's stream of a machine's state", { needs: [] }, () => {
  it("is read by a QEMU that closes the socket as soon as it has all", async () => {
    for (let round = 0; round < 20; round++) {
      const { taken } = await receiver(STATE.length, { status: "completed" });
      await using qmp = await Qmp.connect(join(directory, "qmp.sock"));
      await loadState(qmp, join(directory, "state.sock"), join(directory, "machine"), {});
      expect(taken()).toBe(STATE.length);
      for (const server of servers.splice(0)) server.close();
    }
  });

  it("is refused in QEMU's words", async () => {
    await receiver(4096, { status: "failed", "error-desc": "not a stream of this version" });
    await using qmp = await Qmp.connect(join(directory, "qmp.sock"));
    await expect(
      loadState(qmp, join(directory, "state.sock"), join(directory, "machine"), {}),
    ).rejects.toMatchObject({
      code: "E_QEMU",
      message: expect.stringContaining("not a stream of this version"),
    });
  });
});
