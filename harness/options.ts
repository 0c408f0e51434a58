/** Checked values for the options of v2m-testbed. Each throws TestbedError E_USAGE for a value that makes no sense. */
import { totalmem } from "node:os";
import { TestbedError } from "./common/errors.js";
import type { TestbedKind } from "./testbed.js";

/** Variables of the caller that the command gets too. Everything else must be asked for with --env. */
export const PASSED_VARIABLES = [
  "PATH",
  "HOME",
  "LANG",
  "LC_ALL",
  "TZ",
  "TERM",
  "COLORTERM",
  "NO_COLOR",
  "FORCE_COLOR",
  "CI",
  "XDG_CACHE_HOME",
] as const;

const MIN_MEMORY_MIB = 512;

export function parseKind(text: string): TestbedKind {
  if (text === "amd" || text === "intel" || text === "host") return text;
  throw usage(`--cpu ${text}: must be amd, intel or host`);
}

/** `4G`, `1536M`, or a plain number of MiB. Returns MiB. */
export function parseMemory(text: string): number {
  const match = /^(\d+)([mMgG]?)(?:i?[bB])?$/.exec(text);
  const value = Number(match?.[1]) * (match?.[2]?.toLowerCase() === "g" ? 1024 : 1);
  if (!match || !Number.isSafeInteger(value)) {
    throw usage(`--memory ${text}: give MiB, or a number with M or G`);
  }
  if (value < MIN_MEMORY_MIB) throw usage(`--memory ${text}: the machine needs at least ${MIN_MEMORY_MIB}M`);
  const host = Math.floor(totalmem() / 2 ** 20);
  if (value > host) throw usage(`--memory ${text}: this computer has ${host}M`);
  return value;
}

export function parseCpus(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 16) return value;
  throw usage(`--cpus ${text}: must be 1 to 16`);
}

/** Seconds, fractions allowed. Returns milliseconds. */
export function parseTimeout(text: string): number {
  const value = Math.round(Number(text) * 1000);
  // 2^31 - 1 ms is the longest time a timer of Node can hold.
  if (text.trim() !== "" && value >= 1 && value <= 2 ** 31 - 1) return value;
  throw usage(`--timeout ${text}: must be a positive number of seconds, at most 2147483`);
}

/** The command's environment: what is passed by default, then `--env` in order, then what says where it runs. */
export function buildEnvironment(
  requested: readonly string[],
  caller: NodeJS.ProcessEnv,
  own: Readonly<Record<string, string>>,
): Record<string, string> {
  const env: Record<string, string> = {};
  const pass = (name: string): void => {
    const value = caller[name];
    if (value !== undefined) env[name] = value;
  };
  for (const name of PASSED_VARIABLES) pass(name);
  env.PATH ??= "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  env.HOME ??= "/root";
  for (const item of requested) {
    const equals = item.indexOf("=");
    const name = equals < 0 ? item : item.slice(0, equals);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw usage(`--env ${item}: not a variable's name`);
    if (equals < 0) pass(name);
    else env[name] = item.slice(equals + 1);
  }
  return { ...env, ...own };
}

export function usage(message: string): TestbedError {
  return new TestbedError("E_USAGE", message, { hint: "v2m-testbed --help" });
}
