// SPDX-License-Identifier: Apache-2.0
/**
 * The launch module (struct yod_launch): the one piece of data that the lightweight kernel is given, with
 * the application, its arguments and its environment in it.
 */
import { randomFillSync } from "node:crypto";
import { ArgumentError } from "../errors.js";
import { viewOf } from "../ffi/struct.js";
import { YOD_LAUNCH_MAGIC, YOD_LAUNCH_REPORT_CALLS, YOD_LAUNCH_VERSION, YodLaunch } from "./layouts.js";

const PAGE = 4096;
/** PID_MAX_LIMIT of Linux. */
const PID_MAX = 4_194_304;
const NODENAME_BYTES = 64;

/** Names and values; `undefined` leaves a variable out. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface ModuleOptions {
  /** The executable's content, checked before. */
  readonly file: Uint8Array;
  /** What the program sees as its path (AT_EXECFN). */
  readonly path: string;
  /** argv[0] included. */
  readonly argv: readonly string[];
  readonly env: Environment;
  /** Bytes of the main thread's stack; 0 or absent: the kernel chooses. */
  readonly stackBytes?: number | bigint;
  /** Count every system call by number. */
  readonly countCalls?: boolean;
  readonly pid: number;
  readonly nodename: string;
}

function noNul(text: string, what: string): string {
  if (text.includes("\0")) {
    throw new ArgumentError(`${what} holds a NUL character`);
  }
  return text;
}

/** `NAME=VALUE`, in the order given. @throws ArgumentError */
export function environmentStrings(env: Environment): string[] {
  return Object.entries(env).flatMap(([name, value]) => {
    if (value === undefined) {
      return [];
    }
    if (name === "" || name.includes("=")) {
      throw new ArgumentError(`"${name}" cannot name an environment variable`);
    }
    return [noNul(`${name}=${value}`, `environment variable ${name}`)];
  });
}

const toPage = (bytes: number) => Math.ceil(bytes / PAGE) * PAGE;

/** As many whole characters as fit. */
function cut(text: string, bytes: number): string {
  let short = text;
  while (Buffer.byteLength(short) > bytes) {
    short = short.slice(0, -1);
  }
  return short;
}

/** Put a module together. @throws ArgumentError */
export function buildLaunchModule(options: ModuleOptions): Buffer {
  const { argv, file, pid } = options;
  if (argv.length === 0) {
    throw new ArgumentError("an application has at least its name as argument");
  }
  if (!Number.isSafeInteger(pid) || pid < 1 || pid > PID_MAX) {
    throw new ArgumentError(`${pid} is no process number`, { hint: `1 to ${PID_MAX}` });
  }
  const env = environmentStrings(options.env);
  const words = [
    ...argv.map((word, i) => noNul(word, `argument ${i}`)),
    ...env,
    noNul(options.path, "the executable's path"),
  ];
  const strings = Buffer.from(words.map((word) => `${word}\0`).join(""));
  const stringsOffset = YodLaunch.size;
  const appOffset = toPage(stringsOffset + strings.length);
  const module = Buffer.alloc(toPage(appOffset + file.byteLength));
  YodLaunch.write(viewOf(module), 0, {
    magic: YOD_LAUNCH_MAGIC,
    version: YOD_LAUNCH_VERSION,
    bytes_header: YodLaunch.size,
    bytes: BigInt(module.length),
    app_offset: BigInt(appOffset),
    app_bytes: BigInt(file.byteLength),
    strings_offset: BigInt(stringsOffset),
    strings_bytes: BigInt(strings.length),
    argc: argv.length,
    envc: env.length,
    stack_bytes: BigInt(options.stackBytes ?? 0),
    flags: options.countCalls === true ? YOD_LAUNCH_REPORT_CALLS : 0,
    pid,
    uid: process.getuid?.() ?? 0,
    euid: process.geteuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    egid: process.getegid?.() ?? 0,
    seed: randomFillSync(new Uint8Array(64)),
    unix_ns: BigInt(Date.now()) * 1_000_000n,
    nodename: cut(noNul(options.nodename, "the node's name"), NODENAME_BYTES - 1),
  });
  strings.copy(module, stringsOffset);
  module.set(file, appOffset);
  return module;
}
