// SPDX-License-Identifier: Apache-2.0
/** Launching an application: a machine of its own with the lightweight kernel, and the server of its calls. */
import { constants } from "node:os";
import { ArgumentError, ClosedError, V3mError } from "../errors.js";
import type { GdbServer } from "../vmm/gdb.js";
import { hostFacts, virtualization } from "../vmm/host.js";
import { Machine } from "../vmm/machine.js";
import { formatStopInfo, type StopInfo } from "../vmm/stop-info.js";
import { type Application, readApplication } from "./application.js";
import { AppError } from "./errors.js";
import { DEFAULT_GRACE_MS, type LaunchOptions, planLaunch } from "./launch-options.js";
import { End, type RawReport } from "./layouts.js";
import { type CrashReport, clean, crashReport, formatState, signalName } from "./report.js";
import { YodServer } from "./server.js";
import { collectStatistics, type LaunchStatistics } from "./statistics.js";

/** How an application ended. */
export type Result =
  /** It exited by itself. */
  | { readonly kind: "exit"; readonly status: number }
  /** A signal ended it: one that it raised, or that was sent. */
  | { readonly kind: "signal"; readonly signal: number; readonly name: string }
  /** An exception ended it: `signal` is what Linux would have ended it with. */
  | { readonly kind: "fault"; readonly signal: number; readonly name: string; readonly report: CrashReport }
  /** The kernel could not load it. */
  | { readonly kind: "refused"; readonly text: string }
  /** The machine was stopped: by `stop()`, by `dispose()`, or because it outlived its timeout. */
  | { readonly kind: "stopped"; readonly text: string }
  /** The lightweight kernel or the machine failed: one line, and where there are any registers and the like. */
  | { readonly kind: "failed"; readonly text: string; readonly detail: string };

export type Outcome = Result & {
  /** The timeout elapsed, whatever ended it then. */
  readonly timedOut: boolean;
  readonly statistics: LaunchStatistics;
};

/** Signals for a guest that is not ready for them yet are tried again this often. */
const RETRY_MS = 2;

/**
 * @throws V3mError E_UNSUPPORTED where this host's KVM cannot run the lightweight kernel. A host without KVM
 * is left to the creation of the machine, which knows why.
 */
export function checkHost(kvmPath?: string): void {
  if (virtualization(hostFacts(kvmPath)) === "pvm") {
    throw new V3mError(
      "E_UNSUPPORTED",
      "this host's KVM (PVM) has no virtualization hardware: system calls do not reach a guest's kernel",
      { hint: "the nested machine can run it: npx v2m-testbed -- …; v2m doctor tells more" },
    );
  }
}

/** The last that the kernel said on its console: all that is left of it where it ends without a report. */
class ConsoleTail {
  static readonly #BYTES = 4096;
  #text = Buffer.alloc(0);
  readonly #ended: Promise<void>;

  constructor(machine: Machine) {
    const { console } = machine;
    console.on("data", (chunk: Buffer) => {
      this.#text = Buffer.concat([this.#text, chunk]).subarray(-ConsoleTail.#BYTES);
    });
    this.#ended = new Promise((resolve) => {
      console.once("end", resolve);
      console.once("close", resolve);
    });
  }

  /** When the machine has ended. */
  async text(): Promise<string> {
    await this.#ended;
    return clean(this.#text.toString("latin1").replaceAll("\r", ""));
  }
}

function toResult(info: StopInfo, raw: RawReport | undefined, app: Application, said: string): Result {
  switch (raw?.end) {
    case End.EXIT:
      return { kind: "exit", status: raw.status & 0xff };
    case End.SIGNAL:
      return { kind: "signal", signal: raw.signal, name: signalName(raw.signal) };
    case End.FAULT: {
      const report = crashReport(raw, app.file);
      return { kind: "fault", signal: raw.signal, name: report.signalName, report };
    }
    case End.LAUNCH:
      return { kind: "refused", text: clean(raw.text) };
    case End.PANIC: {
      const report = crashReport({ ...raw, text: "" }, new Uint8Array());
      const text = `the lightweight kernel failed: ${clean(raw.text)}`;
      return { kind: "failed", text, detail: formatState(report) };
    }
    default: {
      if (info.cause === "request") {
        return { kind: "stopped", text: "the machine was stopped" };
      }
      const [first, ...rest] = formatStopInfo(info).split("\n");
      const text = `the machine ended without a report: ${first}`;
      return { kind: "failed", text, detail: [...rest, said].join("\n").trim() };
    }
  }
}

/** Number of a signal that was given by name or number. @throws ArgumentError */
export function signalNumber(signal: number | string): number {
  const number =
    typeof signal === "number" ? signal : (constants.signals as Readonly<Record<string, number>>)[signal];
  if (number === undefined || !Number.isSafeInteger(number) || number < 1 || number > 64) {
    throw new ArgumentError(`${signal} is no signal`, { hint: "a number from 1 to 64, or a name: SIGTERM" });
  }
  return number;
}

/** An application on its way: prepared, running, or over. */
export class Launched implements AsyncDisposable {
  readonly app: Application;
  /** Where a gdb can connect, if that was asked for. */
  readonly gdb: GdbServer | undefined;
  readonly #machine: Machine;
  readonly #server: YodServer;
  readonly #console: ConsoleTail | undefined;
  readonly #timeoutMs: number | undefined;
  readonly #graceMs: number;
  /** Signals that the guest could not take yet. */
  readonly #pending = new Set<number>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #timedOut = false;
  #outcome: Promise<Outcome> | undefined;
  #released: Promise<void> | undefined;

  private constructor(
    app: Application,
    machine: Machine,
    gdb: GdbServer | undefined,
    server: YodServer,
    options: LaunchOptions,
  ) {
    this.app = app;
    this.gdb = gdb;
    this.#machine = machine;
    this.#server = server;
    this.#console = options.console === undefined ? new ConsoleTail(machine) : undefined;
    this.#timeoutMs = options.timeoutMs;
    this.#graceMs = options.graceMs ?? DEFAULT_GRACE_MS;
  }

  /**
   * Read the application, make its machine, load the kernel: everything but the start.
   * @throws AppError, ArgumentError, VmmError, YodError, LibraryError; nothing is left behind then.
   */
  static async prepare(options: LaunchOptions): Promise<Launched> {
    const app =
      typeof options.app === "string" ? await readApplication(options.app, options.cwd) : options.app;
    checkHost(options.kvmPath);
    const plan = planLaunch(options, app);
    const machine = await Machine.create(plan.machine);
    try {
      if (options.console !== undefined) {
        machine.attachConsole(-1, options.console);
      }
      const gdb = options.gdb === undefined ? undefined : machine.gdb(options.gdb);
      return new Launched(app, machine, gdb, YodServer.attach(machine.nativeHandle, plan.server), options);
    } catch (error) {
      await machine.dispose();
      throw error;
    }
  }

  /** Exits that the guest caused so far; while it runs only. */
  guestExits(): number {
    return this.#machine.kvmStats().guestExits;
  }

  /** Power on. @throws VmmError; then it can only be disposed of. */
  start(): void {
    if (this.#released !== undefined || this.#outcome !== undefined) {
      throw new ClosedError("this launch was started, or disposed of");
    }
    this.#machine.start();
    this.#outcome = this.#finish();
    this.#outcome.catch(() => {}); // given to whoever waits
    if (this.#timeoutMs !== undefined) {
      this.#later(this.#timeoutMs, () => {
        this.#timedOut = true;
        this.signal("SIGTERM");
        this.#later(this.#graceMs, () => void this.#machine.stop());
      });
    }
  }

  /** How it ended, when it has; everything that it had was given back by then. */
  wait(): Promise<Outcome> {
    return this.#outcome ?? Promise.reject(new ClosedError("this launch was not started"));
  }

  /** Send a signal to the application, as kill(2) would. Without effect when it has ended. */
  signal(signal: number | NodeJS.Signals): void {
    const number = signalNumber(signal);
    if (this.#released !== undefined || this.#outcome === undefined) {
      return;
    }
    if (!this.#server.signal(number)) {
      this.#pending.add(number);
      this.#later(RETRY_MS, () => {
        if (this.#pending.delete(number)) this.signal(number);
      });
    }
  }

  /** Cut its power. `wait` tells the outcome. */
  async stop(): Promise<void> {
    if (this.#released === undefined && this.#outcome !== undefined) {
      await this.#machine.stop();
    }
  }

  /** Stop it if it runs, and give everything back. Idempotent. */
  async dispose(): Promise<void> {
    await this.stop();
    await this.#outcome?.catch(() => {});
    await this.#release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #later(ms: number, what: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      what();
    }, ms);
    this.#timers.add(timer);
  }

  async #finish(): Promise<Outcome> {
    try {
      const info = await this.#machine.wait();
      const endNs = process.hrtime.bigint();
      const raw = this.#server.report();
      const said = raw === undefined ? ((await this.#console?.text()) ?? "") : "";
      return {
        ...toResult(info, raw, this.app, said),
        timedOut: this.#timedOut,
        statistics: collectStatistics(this.#machine, this.#server.stats(), raw, endNs),
      };
    } finally {
      await this.#release();
    }
  }

  #release(): Promise<void> {
    this.#released ??= (async () => {
      for (const timer of this.#timers) clearTimeout(timer);
      this.#timers.clear();
      await this.#machine.stop(); // no vCPU may be inside the server when that goes
      await this.#server.dispose();
      await this.#machine.dispose();
    })();
    return this.#released;
  }
}

/**
 * Run an application on the lightweight kernel, in a virtual machine of its own:
 *
 *     await using launched = await launch({ app: './app', args: ['-n', '4'], cpus: 4 });
 *     const outcome = await launched.wait();       // { kind: 'exit', status: 0, … }
 *
 * @throws AppError, ArgumentError, VmmError, YodError, LibraryError; nothing is left behind then.
 */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const launched = await Launched.prepare(options);
  try {
    launched.start();
    return launched;
  } catch (error) {
    await launched.dispose();
    throw error;
  }
}

/** The outcome as an error where it was none of the application's doing. */
export function failureOf(outcome: Outcome): V3mError | undefined {
  switch (outcome.kind) {
    case "refused":
      return new AppError("E_APP_REFUSED", `the application cannot be loaded: ${outcome.text}`, {
        hint: "give it more memory, or see docs/reference/yod.md for what can be loaded",
      });
    case "failed":
      return new V3mError("E_GUEST", outcome.text, { hint: "this is a fault of V3M: please report it" });
    default:
      return undefined;
  }
}
