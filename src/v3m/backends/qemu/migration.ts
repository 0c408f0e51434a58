// SPDX-License-Identifier: Apache-2.0
/**
 * QEMU's own way to save a machine: it migrates it, to a file. QEMU may start no program in its sandbox and open no file by
 * migration, so the stream goes through a socket between it and this process.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { open, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { OperationOptions } from "../../../vmm/backend.js";
import { HypervisorError } from "../errors.js";
import type { Qmp } from "./qmp.js";

/** As fast as the disk takes it: QEMU's own limit is for networks. */
const BYTES_PER_SECOND = 2 ** 40;
const POLL_MS = 20;

interface MigrationInfo {
  readonly status?: string;
  readonly "error-desc"?: string;
  readonly ram?: { readonly transferred: number; readonly total: number };
}

/** @throws HypervisorError E_QEMU with QEMU's words */
async function completed(qmp: Qmp, what: string, { signal, onProgress }: OperationOptions): Promise<void> {
  for (;;) {
    const info = await qmp.execute<MigrationInfo>("query-migrate", undefined, { signal });
    if (info.status === "completed") return;
    if (info.status === "failed" || info.status === "cancelled") {
      throw new HypervisorError("E_QEMU", `${what}: ${info["error-desc"] ?? info.status}`, {
        hint: "a device may not be one that QEMU can save",
      });
    }
    if (info.ram !== undefined) onProgress?.({ what, done: info.ram.transferred, total: info.ram.total });
    await sleep(POLL_MS, undefined, signal === undefined ? {} : { signal });
  }
}

/**
 * Write the state of a machine that does not run to a new file. Afterwards its disks' files are whole, and QEMU has let
 * go of them until it goes on.
 * @param socket a path for a socket, which is removed
 */
export async function saveState(
  qmp: Qmp,
  socket: string,
  file: string,
  options: OperationOptions,
): Promise<void> {
  const server = createServer();
  await rm(socket, { force: true });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(socket, resolve);
    });
    const received = new Promise<void>((resolve, reject) => {
      server.once("connection", (stream) => {
        const to = createWriteStream(file, { flags: "wx", mode: 0o400 });
        pipeline(stream, to).then(resolve, reject);
      });
    });
    received.catch(() => {}); // awaited below, unless QEMU complains first
    await qmp.execute("migrate-set-parameters", { "max-bandwidth": BYTES_PER_SECOND });
    await qmp.execute("migrate", { uri: `unix:${socket}` });
    await Promise.race([completed(qmp, "saving the machine", options), received.then(() => {})]);
    await completed(qmp, "saving the machine", options);
    await received;
    const handle = await open(file, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    await qmp.execute("migrate_cancel").catch(() => {});
    throw error;
  } finally {
    server.close();
    await rm(socket, { force: true });
  }
}

/** Give a QEMU that was started with `-incoming defer` the state in a file. It does not run yet. */
export async function loadState(
  qmp: Qmp,
  socket: string,
  file: string,
  options: OperationOptions,
): Promise<void> {
  await rm(socket, { force: true });
  await qmp.execute("migrate-incoming", { uri: `unix:${socket}` });
  const stream = connect(socket);
  const sent = pipeline(createReadStream(file), stream);
  // QEMU says better what is wrong. It knows the end of its stream, and may close the socket before we do.
  sent.catch(() => {});
  try {
    await completed(qmp, "restoring the machine", options);
  } finally {
    stream.destroy();
    await rm(socket, { force: true });
  }
}
