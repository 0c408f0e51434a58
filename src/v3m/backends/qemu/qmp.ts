// SPDX-License-Identifier: Apache-2.0
/**
 * A client for QMP, QEMU's monitor protocol, over a UNIX socket.
 *
 *     await using qmp = await Qmp.connect(path);
 *     const { status } = await qmp.execute<{ status: string }>("query-status");
 *
 * QEMU speaks to one client at a time; others wait in the socket's queue until it is closed. Commands are therefore
 * short: whoever waits for the guest closes the connection first.
 */
import { connect, type Socket } from "node:net";
import { HypervisorError } from "../errors.js";

export interface QmpOptions {
  readonly signal?: AbortSignal | undefined;
  /** Against hangs: how long QEMU may take to answer. Default 60 s. */
  readonly timeoutMs?: number;
}

export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

export interface QmpVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

const TIMEOUT_MS = 60_000;
/** No answer of the commands in use comes near; what is longer is no QMP. */
const LINE_MAX = 16 << 20;

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly command: string;
}

/** QEMU refused a command. `code` is `E_QEMU`, `qemuClass` QEMU's own class of error. */
export class QmpError extends HypervisorError {
  readonly qemuClass: string;

  constructor(command: string, qemuClass: string, description: string) {
    super("E_QEMU", `QEMU refuses ${command}: ${description}`, {
      hint: "is this QEMU older than 7.2? qemu-system-x86_64 --version",
    });
    this.qemuClass = qemuClass;
  }
}

export class Qmp implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  #greeted: ((version: QmpVersion) => void) | undefined;
  #onEvent: ((event: QmpEvent) => void) | undefined;
  #failure: Error | undefined;
  #next = 1;
  #text: Buffer[] = [];
  #textBytes = 0;
  #version: QmpVersion = { major: 0, minor: 0, micro: 0 };

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", (cause: NodeJS.ErrnoException) => this.#fail(this.#lost(cause)));
    socket.on("close", () => this.#fail(this.#lost()));
  }

  /**
   * Connect, take the greeting, negotiate.
   * @param onEvent gets the events that come while connected
   * @throws HypervisorError E_CLOSED (nobody listens, or QEMU ended meanwhile), E_TIMEOUT, E_PROTOCOL; the signal's reason
   */
  static async connect(
    path: string,
    options: QmpOptions = {},
    onEvent?: (event: QmpEvent) => void,
  ): Promise<Qmp> {
    options.signal?.throwIfAborted();
    const qmp = new Qmp(connect(path), path);
    qmp.#onEvent = onEvent;
    try {
      qmp.#version = await qmp.#bounded<QmpVersion>("its greeting", options, (resolve, reject) => {
        qmp.#greeted = resolve;
        qmp.#waiting.set(0, { resolve: () => {}, reject, command: "the greeting" });
      });
      qmp.#waiting.delete(0);
      await qmp.execute("qmp_capabilities", undefined, options);
      return qmp;
    } catch (error) {
      qmp.close();
      throw error;
    }
  }

  /** QEMU's version. */
  get version(): QmpVersion {
    return this.#version;
  }

  /**
   * Run a command. Where it is aborted or takes too long, its answer is not waited for any more.
   * @returns what QEMU returned
   * @throws QmpError (QEMU says no), HypervisorError E_CLOSED, E_TIMEOUT, E_PROTOCOL; the signal's reason
   */
  execute<T = unknown>(
    command: string,
    args?: Readonly<Record<string, unknown>>,
    options: QmpOptions = {},
  ): Promise<T> {
    const id = this.#next++;
    return this.#bounded<T>(command, options, (resolve, reject) => {
      if (this.#failure !== undefined) throw this.#failure;
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject, command });
      const message = { execute: command, ...(args === undefined ? {} : { arguments: args }), id };
      this.#socket.write(`${JSON.stringify(message)}\n`);
    }).finally(() => this.#waiting.delete(id));
  }

  /** Disconnect; what was not answered fails with E_CLOSED. */
  close(): void {
    this.#fail(this.#lost());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** A promise that also ends by a time limit and a signal. */
  async #bounded<T>(
    what: string,
    { signal, timeoutMs = TIMEOUT_MS }: QmpOptions,
    begin: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
  ): Promise<T> {
    signal?.throwIfAborted();
    let timer: NodeJS.Timeout | undefined;
    let abort: (() => void) | undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        abort = () => reject(signal?.reason as Error);
        signal?.addEventListener("abort", abort, { once: true });
        timer = setTimeout(() => {
          const hint = "does another program hold its monitor, or is the host overloaded?";
          reject(new HypervisorError("E_TIMEOUT", `QEMU did not answer: ${what}`, { hint }));
        }, timeoutMs);
        begin(resolve, reject);
      });
    } finally {
      clearTimeout(timer);
      if (abort !== undefined) signal?.removeEventListener("abort", abort);
    }
  }

  #take(chunk: Buffer): void {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      const line = Buffer.concat([...this.#text, chunk.subarray(from, at)]).toString("utf8");
      this.#text = [];
      this.#textBytes = 0;
      from = at + 1;
      if (line.trim() !== "" && this.#failure === undefined) this.#line(line);
    }
    const rest = chunk.subarray(from);
    this.#text.push(rest);
    this.#textBytes += rest.length;
    if (this.#textBytes > LINE_MAX) this.#fail(this.#nonsense("a line without an end"));
  }

  #line(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      message = undefined;
    }
    if (typeof message !== "object" || message === null) {
      this.#fail(this.#nonsense(line));
    } else if ("QMP" in message) {
      const greeting = message.QMP as { version?: { qemu?: QmpVersion } } | null;
      this.#greeted?.(greeting?.version?.qemu ?? { major: 0, minor: 0, micro: 0 });
    } else if ("event" in message) {
      this.#onEvent?.(message as QmpEvent);
    } else if ("return" in message || "error" in message) {
      this.#answer(message);
    } else {
      this.#fail(this.#nonsense(line));
    }
  }

  #answer(message: { return?: unknown; error?: unknown; id?: unknown }): void {
    const error = message.error as { class?: string; desc?: string } | undefined;
    if (typeof message.id !== "number") {
      this.#fail(this.#nonsense(error?.desc ?? "an answer to nothing"));
      return;
    }
    const waiting = this.#waiting.get(message.id); // none: it was given up
    if (error === undefined) waiting?.resolve(message.return);
    else waiting?.reject(new QmpError(waiting.command, error.class ?? "?", error.desc ?? "?"));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#socket.destroy();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(this.#failure);
  }

  #lost(cause?: NodeJS.ErrnoException): HypervisorError {
    const why = cause?.code === undefined ? "" : `: ${cause.code}`;
    return new HypervisorError("E_CLOSED", `QEMU's monitor at ${this.#path} is closed${why}`, {
      hint: "has the machine ended? v2m status",
      errno: cause?.code,
      cause,
    });
  }

  #nonsense(text: string): HypervisorError {
    return new HypervisorError("E_PROTOCOL", `not what QEMU's monitor says: ${text.slice(0, 200)}`, {
      hint: "is there another program at the socket?",
    });
  }
}
