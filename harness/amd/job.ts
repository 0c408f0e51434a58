/** The job: what one run is to do, written as a piece of shell that the agent reads in. */
import type { RunRequest } from "../testbed.js";

export interface Job {
  readonly request: RunRequest;
  /** Marks the end of an output stream; unguessable, so that no output contains it by accident. */
  readonly token: string;
  /** Host path of the directory that is to be /lib/modules inside. */
  readonly modules: string;
  readonly rows: number;
  readonly columns: number;
}

/** Quotes any string without NUL for a POSIX shell. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function jobScript(job: Job): string {
  const { request } = job;
  const variables: Record<string, string> = {
    V3M_TOKEN: job.token,
    V3M_MODULES: job.modules,
    V3M_OUT: request.outDir ?? "",
    V3M_TERMINAL: request.terminal ? "1" : "",
    V3M_ROWS: String(job.rows),
    V3M_COLUMNS: String(job.columns),
  };
  const environment = Object.entries(request.env).map(([name, value]) => `${name}=${value}`);
  // The shell inside is the host's. `env` sets the environment, finds the command and gives 126 or 127 if it cannot.
  const enter = 'cd "$1" || exit 126; shift; exec env -i "$@"';
  const argv = ["/bin/sh", "-c", enter, "sh", request.cwd, ...environment, ...request.command];
  const setsid = request.terminal ? "setsid -c" : "setsid";
  return [
    ...Object.entries(variables).map(([name, value]) => `${name}=${shellQuote(value)}`),
    "v3m_command() {",
    `  exec ${setsid} chroot . ${argv.map(shellQuote).join(" ")}`,
    "}",
    "",
  ].join("\n");
}
