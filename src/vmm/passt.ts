// SPDX-License-Identifier: Apache-2.0
/**
 * User networking: `passt` (Debian: package passt) translates between a guest's Ethernet frames and ordinary
 * sockets of this host, without privileges.
 *
 *     await using passt = await startPasst({ tcp: [{ host: 2222, guest: 22 }] });
 *     // passt.fd goes to the machine as { kind: "stream", fd }
 *
 * It gets one end of a connected socket (`--fd`), so there is no path that others could reach, and it ends by
 * itself when the other end is closed: when `close()` was called and the machine is gone, or this process.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import koffi from "koffi";
import { ArgumentError, errnoName, V3mError } from "../errors.js";
import type { Bound } from "../ffi/library.js";

/** A port of the host's whose connections (or datagrams) go to the guest. */
export interface PortForward {
  readonly host: number;
  /** Default: the same. */
  readonly guest?: number;
  /** The host's address that listens. Default `127.0.0.1`: this host only. */
  readonly address?: string;
}

export interface PasstOptions {
  readonly tcp?: readonly PortForward[];
  readonly udp?: readonly PortForward[];
  /** Default `passt`, looked up in `$PATH`. */
  readonly program?: string;
  /** How long it may take to get ready. Default 10 s. */
  readonly timeoutMs?: number;
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
/** The socket's descriptor in the child. */
const CHILD_FD = 3;
const POLL_MS = 5;
/** Without a sign of readiness (see `isReady`) this long a life is one. */
const PRESUMED_READY_MS = 1000;
const LAST_WORDS = 8192;
/** From the closed socket to SIGTERM, and from there to SIGKILL. */
const PATIENCE_MS = 2000;

/** For a host without a default route: the guest reaches this host, at the gateway's address, and no more. */
const OFFLINE =
  "--ipv4-only --interface lo --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 --mac-addr 02:76:00:00:00:01";

/** A running passt and the socket to it. */
export class Passt implements AsyncDisposable {
  /** A connected UNIX stream socket: each frame after its length in four bytes, big-endian. */
  readonly fd: number;
  readonly pid: number;
  /** Whether the host has a network that the guest can reach; else it reaches the host only. */
  readonly online: boolean;
  readonly #child: PasstChild;
  #closed: Promise<void> | undefined;

  /** @internal Use `startPasst`. */
  constructor(child: PasstChild, fd: number, online: boolean) {
    this.#child = child;
    this.fd = fd;
    this.pid = child.pid;
    this.online = online;
    leaked.register(this, fd, this);
  }

  /** Close the socket and wait until passt has ended; to be called when the machine is gone. */
  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  /** Close the socket here only: passt goes on for another process that has it, and ends with that one. */
  leave(): void {
    leaked.unregister(this);
    closeSync(this.fd);
    this.#closed ??= Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    leaked.unregister(this);
    closeSync(this.fd);
    await this.#child.end();
  }
}

const leaked = new FinalizationRegistry<number>((fd) => closeSync(fd));

/** The process, and what it said on standard error. */
class PasstChild {
  readonly pid: number;
  readonly #process: ChildProcess;
  readonly #gone: Promise<void>;
  #words = "";
  ended = false;

  constructor(process: ChildProcess, pid: number) {
    this.#process = process;
    this.pid = pid;
    this.#gone = new Promise((resolve) => {
      process.on("close", () => {
        this.ended = true;
        resolve();
      });
    });
    process.stderr?.on("data", (chunk: Buffer) => {
      this.#words = (this.#words + chunk.toString("utf8")).slice(-LAST_WORDS);
    });
  }

  /** What it complained about. */
  complaint(): string {
    const noise = /^(Failed to send \d+ bytes to syslog|Don't run as root\..*|)$/;
    return this.#words
      .split("\n")
      .filter((line) => !noise.test(line.trim()))
      .join("; ");
  }

  /** It need not keep this process alive: it ends with it. */
  unref(): void {
    this.#process.unref();
    (this.#process.stderr as { unref?: () => void } | null)?.unref?.();
  }

  async end(): Promise<void> {
    this.#process.ref();
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      if (await this.#within(PATIENCE_MS)) return;
      this.#process.kill(signal); // somebody else has our end of the socket open
    }
    await this.#gone;
  }

  async #within(ms: number): Promise<boolean> {
    const stop = new AbortController();
    const late = sleep(ms, undefined, { signal: stop.signal }).catch(() => undefined);
    await Promise.race([this.#gone, late]);
    stop.abort();
    return this.ended;
  }
}

/**
 * Start passt.
 * @throws V3mError E_UNSUPPORTED (there is no passt, or it cannot isolate itself here), E_OVERLAP (a port is
 * taken), E_TIMEOUT, E_IO; ArgumentError for a port that is none
 */
export async function startPasst(options: PasstOptions = {}): Promise<Passt> {
  const ports = [...forwards("--tcp-ports", options.tcp), ...forwards("--udp-ports", options.udp)];
  try {
    return await start(ports, options, true);
  } catch (error) {
    if (!(error instanceof V3mError && /not usable|routable interface/.test(error.message))) throw error;
    return await start([...OFFLINE.split(" "), ...ports], options, false);
  }
}

async function start(args: readonly string[], options: PasstOptions, online: boolean): Promise<Passt> {
  const [ours, theirs] = socketPair();
  let child: PasstChild;
  try {
    child = await spawned(options.program ?? "passt", args, theirs);
  } catch (error) {
    closeSync(ours);
    throw error;
  } finally {
    closeSync(theirs);
  }
  try {
    await ready(child, options.timeoutMs ?? 10_000);
  } catch (error) {
    closeSync(ours);
    await child.end();
    throw error;
  }
  child.unref();
  return new Passt(child, ours, online);
}

function spawned(program: string, args: readonly string[], fd: number): Promise<PasstChild> {
  const child = spawn(program, ["--foreground", "--quiet", "--fd", String(CHILD_FD), ...args], {
    stdio: ["ignore", "ignore", "pipe", fd],
    cwd: "/",
    detached: true, // Ctrl-C is the console's
  });
  const { pid } = child;
  if (pid !== undefined) return Promise.resolve(new PasstChild(child, pid));
  return new Promise((_, reject) => {
    child.once("error", (cause: NodeJS.ErrnoException) => {
      const missing = cause.code === "ENOENT";
      reject(
        new V3mError(
          missing ? "E_UNSUPPORTED" : "E_IO",
          `user networking: cannot start ${program}: ${cause.code}`,
          {
            errno: cause.code,
            hint: missing ? "sudo apt install passt" : undefined,
            cause,
          },
        ),
      );
    });
  });
}

async function ready(child: PasstChild, timeoutMs: number): Promise<void> {
  const started = Date.now();
  const filters = await seccompFilters("self");
  for (;;) {
    if (child.ended) throw failure(child.complaint());
    const now = await seccompFilters(String(child.pid));
    // The last thing that it does before it serves is to give up most system calls.
    if (now !== undefined && filters !== undefined && now > filters) return;
    const waited = Date.now() - started;
    if (now === undefined && !child.ended && waited > PRESUMED_READY_MS) return;
    if (waited > timeoutMs) {
      throw new V3mError("E_TIMEOUT", `user networking: passt is not ready after ${timeoutMs} ms`, {
        hint: "is the host overloaded? run passt --foreground --stderr by hand",
      });
    }
    await sleep(POLL_MS);
  }
}

/** How many seccomp filters a process has; undefined where the kernel does not tell. */
async function seccompFilters(pid: string): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, "latin1").catch(() => "");
  const found = /^Seccomp_filters:\s*(\d+)/m.exec(status)?.[1];
  return found === undefined ? undefined : Number(found);
}

function failure(complaint: string): V3mError {
  const text = `user networking: passt: ${complaint === "" ? "ended without a word" : complaint}`;
  if (/bind any port/.test(complaint)) {
    return new V3mError("E_OVERLAP", text, {
      hint: "another program listens there, or the port is below 1024 and needs a privilege: choose another",
    });
  }
  if (/namespace|unshare|clone|pivot|mount/i.test(complaint)) {
    return new V3mError("E_UNSUPPORTED", text, {
      hint: "passt needs user namespaces: sysctl user.max_user_namespaces (not 0) and, on Debian, kernel.unprivileged_userns_clone=1",
    });
  }
  if (/root|uid|gid|nobody/i.test(complaint)) {
    return new V3mError("E_PERMISSION", text, {
      hint: "started by root, passt becomes user nobody, which has to exist: or run this as an ordinary user",
    });
  }
  return new V3mError("E_IO", text, { hint: "run passt --foreground --stderr by hand" });
}

function forwards(option: string, ports: readonly PortForward[] = []): string[] {
  return ports.flatMap(({ host, guest = host, address = "127.0.0.1" }) => {
    for (const port of [host, guest]) {
      if (!Number.isInteger(port) || port < 1 || port > 65535) {
        throw new ArgumentError(`${port} is no port`, { hint: "give a number from 1 to 65535" });
      }
    }
    if (!/^[0-9a-fA-F.:]+$/.test(address)) {
      throw new ArgumentError(`${JSON.stringify(address)} is no address to listen at`, {
        hint: "give one such as 127.0.0.1, 0.0.0.0 or ::1",
      });
    }
    return [option, `${address}/${host}:${guest}`];
  });
}

let socketpair:
  | Bound<(domain: number, type: number, protocol: number, fds: Int32Array) => number>
  | undefined;

/** Node has no call for this. */
function socketPair(): readonly [number, number] {
  socketpair ??= koffi.load(null).func("socketpair", "int", ["int", "int", "int", "void *"]);
  const fds = new Int32Array(2);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) !== 0) {
    const errno = errnoName(koffi.errno());
    throw new V3mError("E_SYSCALL", `user networking: no socket: ${errno}`, { errno, hint: "ulimit -n" });
  }
  return [fds[0] ?? -1, fds[1] ?? -1];
}
