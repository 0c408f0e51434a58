/**
 * The scratch disk: a raw, sparse file that Bochs shows to the machine as a disk, and that the host keeps open too.
 * It carries what goes into the machine (the job, then messages) and the output directory that comes back. Layout as
 * in guest/channel.h and guest/job.c.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { TestbedError } from "../common/errors.js";
import { requireTool } from "../common/tools.js";
import type { RunRequest } from "../testbed.js";

const MIB = 2 ** 20;
/** About 4 GB, in whole cylinders as Bochs counts them. Sparse: takes only what is written. */
const SCRATCH_SIZE = 8192 * 16 * 63 * 512;
const JOB_LIMIT = MIB;
const MAILBOX = MIB;
const OUTPUT = 16 * MIB;
const MESSAGE_DATA_OFFSET = 512;

/** Longest piece of standard input in one message. */
export const MESSAGE_LIMIT = 60 * 1024;

/** Kinds of messages to the agent. */
export const MESSAGE = { stdin: 1, signal: 2, size: 3 } as const;

export interface Job {
  readonly request: RunRequest;
  /** Directory inside that is to be /lib/modules. */
  readonly modules: string;
}

/** Bytes of a job: strings, each ended by NUL, in the order in which guest/job.c reads them. */
export function encodeJob({ request, modules }: Job): Buffer {
  const { columns = 80, rows = 24 } = request.stdout as { columns?: number; rows?: number };
  const env = Object.entries(request.env).map(([name, value]) => `${name}=${value}`);
  const strings = [
    "V3MJOB1",
    String(Math.floor(Date.now() / 1000)),
    randomBytes(64).toString("hex"),
    request.cwd,
    request.outDir ?? "",
    modules,
    request.terminal ? "1" : "0",
    String(rows),
    String(columns),
    String(request.command.length),
    ...request.command,
    String(env.length),
    ...env,
  ];
  if (strings.some((text) => text.includes("\0"))) {
    throw new TestbedError("E_USAGE", "an argument or variable contains a NUL character");
  }
  const job = Buffer.from(`${strings.join("\0")}\0`);
  if (job.length > JOB_LIMIT) {
    throw new TestbedError("E_USAGE", "arguments and environment together exceed 1 MiB");
  }
  return job;
}

export class Scratch {
  #sequence = 0n;
  #taken: (() => void) | undefined;
  #last: Promise<void> = Promise.resolve();

  private constructor(
    private readonly file: FileHandle,
    readonly path: string,
  ) {}

  static async create(path: string, job: Buffer): Promise<Scratch> {
    const file = await open(path, "wx+", 0o600);
    await file.truncate(SCRATCH_SIZE);
    await file.write(job, 0, job.length, 0);
    return new Scratch(file, path);
  }

  /** Puts a message into the mailbox as soon as the one before it was taken. */
  send(kind: number, data: Buffer): Promise<void> {
    this.#last = this.#last.then(async () => {
      const header = Buffer.alloc(16);
      this.#sequence += 1n;
      header.writeBigUInt64LE(this.#sequence, 0);
      header.writeUInt32LE(kind, 8);
      header.writeUInt32LE(data.length, 12);
      const taken = new Promise<void>((resolve) => {
        this.#taken = resolve;
      });
      // The header last: its sequence number makes the message valid.
      await this.file.write(data, 0, data.length, MAILBOX + MESSAGE_DATA_OFFSET);
      await this.file.write(header, 0, header.length, MAILBOX);
      await taken;
    });
    return this.#last;
  }

  /** The agent has read the message. */
  taken(): void {
    this.#taken?.();
  }

  /** Unpacks the output directory: `length` bytes of tar archive. */
  async unpackOutput(length: number, target: string): Promise<void> {
    const tar = await requireTool("tar", "tar");
    const child = spawn(tar, ["-xf", "-", "--no-same-owner", "-C", target], {
      stdio: ["pipe", "ignore", "pipe"],
    });
    let message = "";
    child.stderr.on("data", (chunk: Buffer) => {
      message += chunk.toString();
    });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    const archive = createReadStream(this.path, { start: OUTPUT, end: OUTPUT + length - 1 });
    // A tar that gives up closes the pipe; its message says why.
    await pipeline(archive, child.stdin).catch(() => {});
    if ((await ended) !== 0) {
      throw new TestbedError("E_CRASH", `cannot unpack the output into ${target}: ${message.trim()}`);
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
