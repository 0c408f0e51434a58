// SPDX-License-Identifier: Apache-2.0
/**
 * Starts a program under v3m-supervise (native/supervise/main.c): it outlives this process, its channels are
 * served on sockets, its end is recorded.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { errnoName, V3mError } from "../../errors.js";
import { packageRoot } from "../../package-root.js";

/** A stream between the program and those who attach to `NAME.sock`; the last bytes are kept in `NAME.ring`. */
export interface ChannelOptions {
  readonly name: string;
  /** Number of the program's end: 2 for what it says on its standard streams, else 100 to 1000. */
  readonly fd: number;
  /** Bytes kept, 4096 to 2^30. */
  readonly keep: number;
  /** Those who attach may speak to the program. */
  readonly input?: boolean;
  /** Wait for those who attach once they are `keep` bytes behind; else they are sent away. */
  readonly hold?: boolean;
  /** Said to the program first. */
  readonly hello?: string;
  /** File that gets all that the program says, appended. */
  readonly log?: string;
}

export interface SupervisedOptions {
  /** A directory of its own: of records, rings and sockets. */
  readonly directory: string;
  readonly argv: readonly string[];
  readonly channels: readonly ChannelOptions[];
  /** Listening sockets: a name in the directory, and the number of the program's descriptor. */
  readonly sockets: readonly { readonly name: string; readonly fd: number }[];
  /** Taps at which the guest gets its address: see `dhcpNetworks`. */
  readonly dhcp?: readonly string[];
  /** Descriptors of this process that the program gets as 3, 4, …; they stay open here. */
  readonly pass: readonly number[];
  /** Run when the program has ended, unless a command attends to that: see `attend`. */
  readonly after?: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/** Where v3m-supervise is: `V3M_SUPERVISE` if set, else the release build in this package. */
export function supervisorPath(): string {
  return process.env.V3M_SUPERVISE || join(packageRoot(), "native/build/release/v3m-supervise");
}

/** A program that has been started, and ends with this object unless it is released. */
export class Supervised implements AsyncDisposable {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;

  /** @internal Use `startSupervised`. */
  constructor(child: ChildProcess, pid: number, gone: Promise<void>) {
    this.#child = child;
    this.#gone = gone;
    this.pid = pid;
  }

  /** From now on it lives by itself. */
  async release(): Promise<void> {
    const { stdin } = this.#child;
    await new Promise<void>((resolve) => stdin?.end("r", () => resolve()) ?? resolve());
    this.#child.unref();
  }

  /** Kill it if it was not released, and wait until it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.stdin?.writableEnded) return;
    this.#child.stdin?.destroy();
    await this.#gone;
  }
}

/**
 * Start a program. Until `release` it is on a leash: it is killed when this process dies.
 * @throws V3mError E_NO_LIBRARY (v3m-supervise is not built), E_UNSUPPORTED (no such program), E_IO (errno ENOSPC: no room
 * for the rings)
 */
export async function startSupervised(options: SupervisedOptions): Promise<Supervised> {
  const { directory, pass, signal } = options;
  signal?.throwIfAborted();
  const path = supervisorPath();
  if (!existsSync(path)) {
    throw new V3mError("E_NO_LIBRARY", `v3m-supervise is not at ${path}`, {
      hint: process.env.V3M_SUPERVISE ? "correct or unset V3M_SUPERVISE" : "make build",
    });
  }
  const child = spawn(path, supervisorArguments(options), {
    stdio: ["pipe", "pipe", "ignore", ...pass],
    cwd: "/",
    detached: true,
  });
  const gone = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  child.stdin?.on("error", () => {}); // it has ended, and says so elsewhere
  const { pid } = child;
  if (pid === undefined) {
    throw new V3mError("E_IO", `cannot start ${path}`, { hint: "is it executable? make build" });
  }
  const supervised = new Supervised(child, pid, gone);
  try {
    const report = await firstLine(child.stdout, signal);
    if (report !== "started") throw failure(report, options.argv[0] ?? "", directory);
    signal?.throwIfAborted();
  } catch (error) {
    await supervised[Symbol.asyncDispose]();
    throw error;
  }
  unref(child.stdin);
  return supervised;
}

function supervisorArguments(options: SupervisedOptions): string[] {
  const { directory, channels, sockets, dhcp = [], pass, after = [], argv } = options;
  return [
    ...["--dir", directory, "--pass", String(pass.length), "--after", String(after.length)],
    ...channels.flatMap(({ name, fd, keep, input, hold, hello, log }) => [
      ...["--channel", name, "--fd", String(fd), "--keep", String(keep)],
      ...(input ? ["--input"] : []),
      ...(hold ? ["--hold"] : []),
      ...(hello === undefined ? [] : ["--hello", hello]),
      ...(log === undefined ? [] : ["--log", log]),
    ]),
    ...sockets.flatMap(({ name, fd }) => ["--socket", name, "--fd", String(fd)]),
    ...dhcp.flatMap((network) => ["--dhcp", network]),
    ...["--", ...after, ...argv],
  ];
}

/** The leash must not keep this process alive. */
function unref(stream: Writable | null): void {
  (stream as { unref?: () => void } | null)?.unref?.();
}

async function firstLine(stream: Readable | null, signal: AbortSignal | undefined): Promise<string> {
  let text = "";
  const abort = () => stream?.destroy();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    for await (const chunk of stream ?? []) {
      text += String(chunk);
      if (text.includes("\n")) break;
    }
  } catch {
    signal?.throwIfAborted();
  } finally {
    signal?.removeEventListener("abort", abort);
  }
  signal?.throwIfAborted();
  return text.split("\n", 1)[0] ?? "";
}

function failure(report: string, program: string, directory: string): V3mError {
  const [, number, what = ""] = /^failed (\d+) (.*)$/.exec(report) ?? [];
  const errno = number === undefined ? undefined : errnoName(Number(number));
  if (errno === undefined) {
    return new V3mError("E_IO", "v3m-supervise ended without a word", { hint: "make build" });
  }
  if (what === program && errno === "ENOENT") {
    return new V3mError("E_UNSUPPORTED", `there is no ${program}`, { errno, hint: "install it" });
  }
  const full = errno === "ENOSPC";
  return new V3mError("E_IO", `cannot start ${program}: ${what}: ${errno}`, {
    errno,
    hint: full ? `free some space: df ${directory}` : `look at the permissions of ${directory}`,
  });
}
