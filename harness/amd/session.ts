/** The host's side of one run: sends the job, carries the streams, and waits for the end, whichever comes first. */
import { randomBytes } from "node:crypto";
import { TestbedError } from "../common/errors.js";
import type { RunControl, RunRequest } from "../testbed.js";
import { jobScript } from "./job.js";
import { onLine } from "./lines.js";
import { carryOutput } from "./output.js";
import type { Qemu } from "./qemu.js";

/** Longest time from the start of QEMU to the start of the command, in milliseconds. Emulation on a busy host is slow. */
export const BOOT_LIMIT_MS = 180_000;
/** A restored machine needs half a second; if it shows nothing by then, it is booted afresh. */
export const RESTORE_LIMIT_MS = 30_000;
/**
 * QEMU's emulation of SVM clears bits in the CPU's set of pending interrupts without the lock under which its I/O
 * threads set them, so that now and then an interrupt is forgotten. If that was the one-shot timer's, the machine
 * would wait for ever. The next interrupt of any kind makes the interrupt controller present the forgotten one too:
 * so make sure that there is a next one.
 */
const NUDGE_MS = 100;

/** A machine that gave no sign of life for so long hangs. Signs come every few seconds. */
const HANG_LIMIT_MS = 120_000;
const SECOND_LOOK_MS = 2000;

export interface SessionOptions {
  readonly request: RunRequest;
  readonly control: RunControl;
  readonly modules: string;
  readonly startLimitMs: number;
}

/** What a session tells its owner besides its result. */
export interface SessionProgress {
  /** The command was about to start: from here on nothing may be tried a second time. */
  started: boolean;
}

/** Runs the job in a machine that is booting or restored. Leaves ending the machine to the caller. */
export async function runSession(
  qemu: Qemu,
  options: SessionOptions,
  progress: SessionProgress,
): Promise<number> {
  const { request, control, modules } = options;
  const token = `\0${randomBytes(24).toString("base64url")}`;
  const line = qemu.channel("control");
  let detach = (): void => {};
  let timer: NodeJS.Timeout | undefined;
  let nudge: NodeJS.Timeout | undefined;

  try {
    return await new Promise<number>((resolve, reject) => {
      const onAbort = (): void => reject(control.abort.reason);
      if (control.abort.aborted) onAbort();
      control.abort.addEventListener("abort", onAbort, { once: true });

      const watch = (milliseconds: number, error: () => TestbedError): void => {
        clearTimeout(timer);
        // Twice: writing to a slow reader of our own output may have blocked this process for as long, and then
        // the signs of life are there, only not yet read.
        timer = setTimeout(() => {
          timer = setTimeout(() => reject(error()), SECOND_LOOK_MS);
        }, milliseconds);
      };
      const silent = (): TestbedError =>
        failure(qemu, "E_HANG", "the machine hangs: no sign of life from it");

      const outputs: Promise<void>[] = [];
      const start = (): void => {
        progress.started = true;
        nudge = setInterval(() => line.write("\n"), NUDGE_MS);
        const forwarded = attachStreams(qemu, request, token);
        outputs.push(...forwarded.outputs);
        detach = forwarded.detach;
        control.onSignal((signal) => line.write(`signal ${signal.slice(3)}\n`));
      };

      onLine(line, (text) => {
        const [word, ...rest] = text.split(" ");
        if (progress.started) watch(HANG_LIMIT_MS, silent);
        switch (word) {
          case "time?":
            line.write(`${(Date.now() / 1000).toFixed(3)}\n`);
            break;
          case "started":
            start();
            break;
          case "exit":
            // The consumer of the output may be slow, and is waited for without a limit.
            clearTimeout(timer);
            Promise.all(outputs).then(() => resolve(Number(rest[0])), reject);
            break;
          case "failed":
            reject(failure(qemu, "E_BOOT", `the machine could not be set up: ${rest.join(" ")}`));
            break;
        }
      });

      watch(options.startLimitMs, () =>
        failure(qemu, "E_BOOT", `the machine did not come up within ${options.startLimitMs / 1000} s`),
      );
      qemu.exited.then(() => {
        const when = progress.started ? "while the command was running" : "before the command was started";
        reject(failure(qemu, progress.started ? "E_CRASH" : "E_BOOT", `the machine ended ${when}`));
      });
      const { columns = 80, rows = 24 } = request.stdout as { columns?: number; rows?: number };
      qemu.channel("job").end(jobScript({ request, token: shellToken(token), modules, rows, columns }));
    });
  } finally {
    clearTimeout(timer);
    clearInterval(nudge);
    detach();
  }
}

/** A shell variable cannot hold NUL: the job carries the token without it, and the agent's printf adds it. */
function shellToken(token: string): string {
  return token.slice(1);
}

/** Connects the command's streams; `detach` disconnects those that outlive the run. */
function attachStreams(
  qemu: Qemu,
  request: RunRequest,
  token: string,
): { outputs: Promise<void>[]; detach: () => void } {
  const input = qemu.channel(request.terminal ? "terminal" : "stdin");
  const { stdin, stdout } = request;
  if (stdin) stdin.pipe(input);
  else input.end();
  const detachInput = (): void => {
    stdin?.unpipe(input);
    stdin?.pause();
  };
  if (!request.terminal) {
    const outputs = [
      carryOutput(qemu.channel("stdout"), stdout, token),
      carryOutput(qemu.channel("stderr"), request.stderr, token),
    ];
    return { outputs, detach: detachInput };
  }
  const resize = (): void => {
    const { columns = 80, rows = 24 } = stdout as { columns?: number; rows?: number };
    qemu.channel("control").write(`size ${rows} ${columns}\n`);
  };
  stdout.on("resize", resize);
  const detach = (): void => {
    detachInput();
    stdout.off("resize", resize);
  };
  return { outputs: [carryOutput(qemu.channel("terminal"), stdout, token)], detach };
}

/** An error with what the machine's console (kernel messages) and QEMU said. */
export function failure(qemu: Qemu, code: "E_BOOT" | "E_CRASH" | "E_HANG", message: string): TestbedError {
  const panic = /Kernel panic - not syncing: (.*)/.exec(qemu.console)?.[1]?.trim();
  const reason = panic ? `${message} (kernel panic: ${panic})` : message;
  const log = [qemu.errors, qemu.console.split("\n").slice(-60).join("\n")].filter(Boolean).join("\n");
  return new TestbedError(code, reason, log === "" ? {} : { consoleLog: log });
}
