// SPDX-License-Identifier: Apache-2.0
/** `v2m run`: a machine in the foreground, its console on this terminal. */
import { footprint } from "../vmm/footprint.js";
import { Machine } from "../vmm/machine.js";
import type { KvmStats } from "../vmm/stats.js";
import { formatStopInfo, type StopInfo } from "../vmm/stop-info.js";
import { type Command, ConsoleSession, ESCAPE_HELP } from "./console-session.js";
import { Exit } from "./exit-codes.js";
import { announceGdb } from "./gdb-options.js";
import { loadModules } from "./module-options.js";
import { machineOptions, planRun, type RunFlags, type RunPlan } from "./run-options.js";
import { formatSummary, summarize } from "./run-summary.js";

/** Why we stopped the machine, if it was us. */
type Interruption = "timeout" | "output closed" | "escape key" | "SIGINT" | "SIGTERM" | "SIGHUP";

const INTERRUPTED: Readonly<Record<Interruption, number>> = {
  timeout: Exit.TIMEOUT,
  "output closed": Exit.SIGPIPE,
  "escape key": Exit.OK,
  SIGINT: Exit.SIGINT,
  SIGTERM: Exit.SIGTERM,
  SIGHUP: Exit.SIGHUP,
};

function exitCode(info: StopInfo, interruption: Interruption | undefined): number {
  if (info.state === "crashed") return Exit.CRASHED;
  if (info.cause === "reset") return Exit.RESET;
  return info.cause === "poweroff" || interruption === undefined ? Exit.OK : INTERRUPTED[interruption];
}

function kvmStats(machine: Machine): KvmStats | null {
  try {
    return machine.kvmStats();
  } catch {
    return null; // before Linux 5.14
  }
}

/** Notes the moment at which the console has shown a text, also where it arrives in pieces. */
class ReadyWatch {
  readonly #text: Buffer;
  #tail: Buffer = Buffer.alloc(0);
  at: bigint | undefined;

  constructor(text: string) {
    this.#text = Buffer.from(text);
  }

  readonly push = (chunk: Buffer): void => {
    if (this.at !== undefined || this.#text.length === 0) return;
    const data = Buffer.concat([this.#tail, chunk]);
    if (data.includes(this.#text)) this.at = process.hrtime.bigint();
    this.#tail = data.subarray(Math.max(0, data.length - this.#text.length + 1));
  };
}

class ForegroundRun {
  readonly #machine: Machine;
  readonly #plan: RunPlan;
  readonly #session: ConsoleSession;
  readonly #ready: ReadyWatch;
  #interruption: Interruption | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(machine: Machine, plan: RunPlan) {
    this.#machine = machine;
    this.#plan = plan;
    this.#ready = new ReadyWatch(plan.ready ?? "");
    machine.console.on("data", this.#ready.push);
    this.#session = new ConsoleSession(machine.console, {
      onCommand: (command) => void this.#obey(command),
      onClosedOutput: () => this.interrupt("output closed"),
    });
  }

  interrupt(why: Interruption): void {
    this.#interruption ??= why;
    void this.#machine.stop();
  }

  async run(): Promise<number> {
    const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
    const onSignal = (signal: NodeJS.Signals) => this.interrupt(signal as Interruption);
    for (const signal of signals) process.on(signal, onSignal);
    if (this.#plan.timeoutMs !== undefined) {
      this.#timer = setTimeout(() => this.interrupt("timeout"), this.#plan.timeoutMs);
    }
    try {
      this.#machine.start();
      const info = await this.#machine.wait();
      const endNs = process.hrtime.bigint();
      if (this.#interruption !== "output closed") await this.#session.drained();
      return await this.#report(info, endNs);
    } finally {
      clearTimeout(this.#timer);
      this.#session.close();
      for (const signal of signals) process.off(signal, onSignal);
    }
  }

  async #report(info: StopInfo, endNs: bigint): Promise<number> {
    const code = exitCode(info, this.#interruption);
    const { stats, json, timeoutMs } = this.#plan;
    const machine = this.#machine;
    const say = (text: string) => process.stderr.write(`${text}\n`);
    if (this.#interruption === "timeout" && code === Exit.TIMEOUT && !json) {
      say(`v2m: the guest was still running after ${(timeoutMs ?? 0) / 1000} s and was stopped [E_TIMEOUT]`);
      say("hint: give it longer with --timeout, or find out what it waits for");
    }
    if (info.state === "crashed" && !json) say(`v2m: the guest crashed: ${formatStopInfo(info)}`);
    if (stats || json) {
      const ranges = machine.memory.hostRanges;
      const summary = summarize(info, code, machine.stats(), {
        kvm: kvmStats(machine),
        memory: { ...(await footprint(ranges)), guest: Number(machine.memory.size) },
        readyNs: this.#ready.at,
        endNs,
      });
      const crash = {
        registers: info.registers,
        code: Buffer.from(info.code).toString("hex"),
        vcpu: info.vcpu,
      };
      const plain = (_key: string, value: unknown) =>
        typeof value === "bigint" ? `0x${value.toString(16)}` : value;
      if (json) say(JSON.stringify(info.state === "crashed" ? { ...summary, crash } : summary, plain));
      else say(formatSummary(summary));
    }
    return code;
  }

  async #obey(command: Command): Promise<void> {
    const say = (text: string) => process.stderr.write(`\r\n[v2m] ${text}\r\n`);
    try {
      if (command === "help") process.stderr.write(ESCAPE_HELP);
      else if (command === "stop") this.interrupt("escape key");
      else if (command === "reset") this.#machine.reset();
      else if (command === "detach") say("a machine in the foreground ends with its command: see v2m start");
      else if (command === "stats") say(`${kvmStats(this.#machine)?.guestExits ?? "?"} guest-caused exits`);
      else if (this.#machine.state === "paused") {
        this.#machine.resume();
        say("resumed");
      } else {
        await this.#machine.pause();
        say("paused: Ctrl-A p resumes");
      }
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    }
  }
}

/** Boot, run to the end, report. @returns the exit code */
export async function run(flags: RunFlags): Promise<number> {
  const plan = planRun(flags);
  const machine = await Machine.create(await machineOptions(plan));
  try {
    await loadModules(machine, plan.modules);
    if (plan.gdb !== undefined) announceGdb(machine.gdb(plan.gdb), plan.gdb.wait === true);
    return await new ForegroundRun(machine, plan).run();
  } finally {
    await machine.dispose();
  }
}
