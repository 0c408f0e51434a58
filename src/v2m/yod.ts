// SPDX-License-Identifier: Apache-2.0
/** `v2m yod`: a program on the lightweight kernel, as if it were a local command. */
import { closeSync, openSync } from "node:fs";
import { V3mError } from "../errors.js";
import { Channel } from "../vmm/channel.js";
import { readApplication } from "../yod/application.js";
import { failureOf, Launched, type Outcome } from "../yod/launch.js";
import { Pipe } from "../yod/pipe.js";
import { formatCrash } from "../yod/report.js";
import { diagnose } from "./doctor.js";
import { announceGdb } from "./gdb-options.js";
import { errorJson, formatError } from "./report.js";
import { exitCodeOfOutcome, YodExit, yodExitCodeOf } from "./yod-exit.js";
import { nestedCommand, planYod, type YodFlags, type YodPlan } from "./yod-options.js";
import { copyLines, OrderedWriter, sayError } from "./yod-output.js";
import { formatStatistics, outcomeJson } from "./yod-summary.js";

/** What a shell, a user or a batch system sends to a local command. SIGTSTP stops v2m, and the guest with it. */
const FORWARDED = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGTERM",
  "SIGUSR1",
  "SIGUSR2",
  "SIGALRM",
  "SIGWINCH",
] as const satisfies readonly NodeJS.Signals[];

/** A rank that does not end by SIGTERM is stopped after this. */
const GRACE_MS = 5000;

/** Errors of the host, which the nested machine does not have. */
const HOST_ERRORS: ReadonlySet<string> = new Set(["E_UNSUPPORTED", "E_NO_KVM"]);

/** The same error, with what to type to run it in the nested machine. */
function offerNested(error: unknown, flags: YodFlags): unknown {
  if (!(error instanceof V3mError) || !HOST_ERRORS.has(error.code)) {
    return error;
  }
  const command = nestedCommand(process.argv.slice(2));
  const { place, advice } = diagnose(flags.kvm);
  return new V3mError(error.code, error.message, {
    hint: place === "nowhere" ? `${advice}; then: ${command}` : `in the nested machine: ${command}`,
    errno: error.errno,
    cause: error,
  });
}

class YodRun {
  readonly #plan: YodPlan;
  readonly #app: string;
  readonly #launched: Launched[] = [];
  #channel: Channel | undefined;
  readonly #outcomes: Outcome[] = [];
  readonly #copies: Promise<void>[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  /** The exit code of the first that failed. */
  #failure: number | undefined;

  constructor(app: string, plan: YodPlan) {
    this.#app = app;
    this.#plan = plan;
  }

  /** @returns the exit code */
  async run(): Promise<number> {
    const forward = (signal: NodeJS.Signals) => {
      for (const launched of this.#launched) launched.signal(signal);
    };
    try {
      await this.#prepare();
      for (const signal of FORWARDED) process.on(signal, forward);
      for (const launched of this.#launched) launched.start();
      await Promise.all(this.#launched.map((launched, rank) => this.#watch(launched, rank)));
      await Promise.all(this.#copies);
      return this.#report();
    } finally {
      for (const timer of this.#timers) clearTimeout(timer);
      await Promise.all(this.#launched.map((launched) => launched.dispose()));
      this.#channel?.close();
      for (const signal of FORWARDED) process.off(signal, forward);
    }
  }

  async #prepare(): Promise<void> {
    const app = await readApplication(this.#app);
    const writers = [1, 2].map(
      (fd) => new OrderedWriter(fd, (error) => this.#end(error.code === "EPIPE" ? 141 : YodExit.FAILED)),
    );
    const { launches, channel } = this.#plan;
    this.#channel = channel === undefined ? undefined : Channel.create(channel);
    const empty = launches.length > 1 ? openSync("/dev/null", "r") : 0;
    try {
      for (const [rank, options] of launches.entries()) {
        using out = this.#plan.prefix ? new Pipe() : undefined;
        using err = this.#plan.prefix ? new Pipe() : undefined;
        // Standard input is rank 0's, as with mpirun.
        const stdio = [rank === 0 ? 0 : empty, out?.writeEnd ?? 1, err?.writeEnd ?? 2] as const;
        const launched = await Launched.prepare({
          ...options,
          app,
          argv0: this.#app,
          stdio: [...stdio],
          ...(this.#channel === undefined ? {} : { shm: { channel: this.#channel, peer: rank } }),
        });
        this.#launched.push(launched);
        if (launched.gdb !== undefined) announceGdb(launched.gdb, options.gdb?.wait === true);
        [out, err].forEach((pipe, i) => {
          const writer = writers[i];
          if (pipe !== undefined && writer !== undefined) {
            this.#copies.push(copyLines(pipe.release(pipe.readEnd), `[${rank}] `, writer));
          }
        });
      }
    } finally {
      if (empty > 0) closeSync(empty);
    }
  }

  async #watch(launched: Launched, rank: number): Promise<void> {
    const outcome = await launched.wait();
    this.#outcomes[rank] = outcome;
    const code = exitCodeOfOutcome(outcome);
    if (code !== 0) this.#end(code);
  }

  /** One has failed: the others get SIGTERM, and are stopped if that does not end them. */
  #end(code: number): void {
    if (this.#failure !== undefined) {
      return;
    }
    this.#failure = code;
    for (const launched of this.#launched) launched.signal("SIGTERM");
    const timer = setTimeout(() => {
      for (const launched of this.#launched) void launched.stop();
    }, GRACE_MS);
    this.#timers.add(timer);
  }

  #report(): number {
    const code = this.#failure ?? 0;
    const { json, stats, ranked, launches } = this.#plan;
    if (json) {
      sayError(outcomeJson(this.#outcomes, code, ranked));
      return code;
    }
    this.#outcomes.forEach((outcome, rank) => {
      const who = ranked ? `${this.#app} (rank ${rank})` : this.#app;
      const failure = failureOf(outcome);
      if (outcome.kind === "fault") sayError(`v2m yod: ${who} ${formatCrash(outcome.report)}`);
      if (failure !== undefined) sayError(formatError(failure));
      if (outcome.kind === "failed" && outcome.detail !== "") sayError(outcome.detail);
      if (outcome.timedOut) {
        const seconds = (launches[rank]?.timeoutMs ?? 0) / 1000;
        sayError(`v2m: ${who} was still running after ${seconds} s and was ended [E_TIMEOUT]`);
      }
    });
    if (stats) {
      this.#outcomes.forEach((outcome, rank) => {
        sayError(formatStatistics(outcome, ranked ? ` rank ${rank}` : ""));
      });
    }
    return code;
  }
}

/** Run an application to its end. @returns the exit code; errors were reported on standard error */
export async function yod(app: string, args: readonly string[], flags: YodFlags): Promise<number> {
  try {
    return await new YodRun(app, planYod(app, args, flags)).run();
  } catch (cause) {
    const error = offerNested(cause, flags);
    sayError(flags.json === true ? JSON.stringify({ error: errorJson(error) }) : formatError(error));
    return yodExitCodeOf(error);
  }
}
