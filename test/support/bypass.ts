// SPDX-License-Identifier: Apache-2.0
/** Programs on libbypass (bypass/), as processes of this computer that share memory. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";

/** What `make -C bypass tests` built. */
export function bypassBuild(name: string): string {
  return join(packageRoot(), "bypass/build", name);
}

export const MPICC = join(packageRoot(), "bypass/bin/v3m-mpicc");
export const MPIRUN = join(packageRoot(), "bypass/bin/v3m-mpirun");

/** Only against hangs. */
const HANG_MS = 480_000;

export interface Ran {
  /** The exit code; -1 if it did not end by itself. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Run a program to its end. */
export function run(
  program: string,
  args: readonly string[],
  options: { readonly env?: Record<string, string>; readonly cwd?: string } = {},
): Promise<Ran> {
  const env = { ...process.env, ...options.env };
  return new Promise((resolve) => {
    execFile(
      program,
      [...args],
      { env, timeout: HANG_MS, ...(options.cwd === undefined ? {} : { cwd: options.cwd }) },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ code, stdout, stderr });
      },
    );
  });
}

/** Run a program as so many peers. */
export function mpirun(
  ranks: number,
  command: readonly string[],
  options: {
    readonly flags?: readonly string[];
    readonly env?: Record<string, string>;
    readonly cwd?: string;
  } = {},
): Promise<Ran> {
  return run(MPIRUN, ["-n", String(ranks), ...(options.flags ?? []), "--", ...command], options);
}

/** What the library counted in a rank: of the line that `V3M_MPI_STATS=1` gives. */
export function counts(output: string): { readonly sleeps: number; readonly doorbells: number } {
  const count = (what: string) => Number(new RegExp(`${what} (\\d+)`).exec(output)?.[1]);
  return { sleeps: count("sleeps"), doorbells: count("doorbells") };
}
