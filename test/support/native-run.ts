// SPDX-License-Identifier: Apache-2.0
/** The same static binary as a plain process and on the lightweight kernel: how it ends, and all that it prints. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { type AppOptions, runApp } from "./yod.js";

/** The end of a run, to be compared. */
export interface Ending {
  /** Exit status, or the name of the signal that ended it. */
  readonly status: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface BothOptions extends AppOptions {
  /** Runs before each of the two, with the name of the run: to lay out files. */
  readonly prepare?: (run: "native" | "lwk") => void;
}

/** Of both runs: nothing that depends on who runs the tests. */
const ENVIRONMENT = { PATH: "/bin", LANG: "C", TZ: "UTC0", HOME: "/" };
const MAX_OUTPUT = 256 << 20;
/** Longer texts, and what is no text, are compared and shown by their length and hash. */
const SHOWN = 20_000;
/** Only against hangs. */
const HANG_MS = 300_000;

function comparable(bytes: Buffer): string {
  if (bytes.length <= SHOWN && !bytes.includes(0)) return bytes.toString("latin1");
  return `${bytes.length} bytes, SHA-256 ${createHash("sha256").update(bytes).digest("hex")}`;
}

function native(app: string, args: readonly string[], options: BothOptions): Ending {
  const run = spawnSync(app, args, {
    input: options.input ?? "",
    env: { ...ENVIRONMENT, ...options.env },
    maxBuffer: MAX_OUTPUT,
    timeout: HANG_MS,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (run.error !== undefined) throw run.error;
  return {
    status: run.signal ?? run.status ?? -1,
    stdout: comparable(run.stdout),
    stderr: comparable(run.stderr),
  };
}

async function onLwk(app: string, args: readonly string[], options: BothOptions): Promise<Ending> {
  const { prepare: _, ...rest } = options;
  const run = await runApp(app, args, {
    memory: 128 << 20,
    ...rest,
    env: { ...ENVIRONMENT, ...options.env },
  });
  const { outcome } = run;
  const status =
    outcome.kind === "exit"
      ? outcome.status
      : outcome.kind === "signal" || outcome.kind === "fault"
        ? outcome.name
        : `${outcome.kind}: ${outcome.text}`;
  return {
    status: outcome.timedOut ? `timed out, ${status}` : status,
    stdout: comparable(run.output),
    stderr: comparable(Buffer.from(run.stderr, "latin1")),
  };
}

/** Run a program twice. They are to be equal. */
export async function runBoth(
  app: string,
  args: readonly string[] = [],
  options: BothOptions = {},
): Promise<{ native: Ending; lwk: Ending }> {
  options.prepare?.("native");
  const plain = native(app, args, options);
  options.prepare?.("lwk");
  return { native: plain, lwk: await onLwk(app, args, options) };
}
