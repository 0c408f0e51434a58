// SPDX-License-Identifier: Apache-2.0
/** Options of `v2m yod`, checked and turned into those of launches. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { SHM_AREA_MAX, SHM_PEERS } from "../ffi/shm.js";
import type { ChannelOptions } from "../vmm/channel.js";
import type { Environment } from "../yod/launch-module.js";
import type { LaunchOptions } from "../yod/launch-options.js";
import type { Root } from "../yod/server.js";
import { type GdbFlags, planGdb } from "./gdb-options.js";
import { backing } from "./run-options.js";
import { parseCount, parseCpuList, parseDuration, parseSize, UsageError } from "./values.js";

/** As commander gives them. */
export interface YodFlags extends GdbFlags {
  readonly cpus: string;
  readonly memory: string;
  readonly hugepages: string;
  readonly prefault?: boolean;
  readonly numaNode?: string;
  readonly pin?: string;
  readonly root?: readonly string[];
  readonly env?: readonly string[];
  readonly clearEnv?: boolean;
  readonly timeout?: string;
  readonly ranks?: string;
  readonly prefix?: boolean;
  readonly channelSize?: string;
  readonly stats?: boolean;
  readonly json?: boolean;
  readonly console?: boolean;
  readonly kvm?: string;
}

const MAX_RANKS = 1024;
/** Of a rank: what it does not use costs nothing. */
const DEFAULT_AREA = 16n << 20n;

/** `DIR`, `DIR:ro` or `DIR:rw`. @throws UsageError */
export function parseRoot(text: string): Root {
  const match = /^(.+?)(?::(ro|rw))?$/s.exec(text);
  const path = match?.[1] === undefined ? undefined : resolve(match[1]);
  if (path === undefined || statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new UsageError(`--root ${text}: not a directory`, "give a directory, or DIR:rw for a writable one");
  }
  return { path, writable: match?.[2] === "rw" };
}

/** The caller's environment (or none, with --clear-env), changed by each `NAME=VALUE`; `NAME` is the caller's. */
export function environment(
  changes: readonly string[],
  clear: boolean,
  caller: Environment = process.env,
): Record<string, string> {
  const result: Record<string, string> = {};
  const set = (name: string, value: string | undefined) => {
    if (value !== undefined) result[name] = value;
  };
  if (!clear) {
    for (const [name, value] of Object.entries(caller)) set(name, value);
  }
  for (const change of changes) {
    const at = change.indexOf("=");
    const name = at < 0 ? change : change.slice(0, at);
    if (name === "") {
      throw new UsageError(`--env ${change}: no name`, "give NAME=VALUE, or NAME for the value that it has");
    }
    set(name, at < 0 ? caller[name] : change.slice(at + 1));
  }
  return result;
}

/** What the environment says of a rank; PMI's names are what programs without MPI's library look for too. */
function rankVariables(rank: number, size: number): Record<string, string> {
  const [r, s] = [String(rank), String(size)];
  return { V3M_RANK: r, V3M_RANKS: s, V3M_SIZE: s, PMI_RANK: r, PMI_SIZE: s };
}

/** What connects the ranks, if anything can. @throws UsageError */
function planChannel(ranks: number, size: string | undefined): ChannelOptions | undefined {
  const connected = ranks >= 2 && ranks <= SHM_PEERS;
  if (size === undefined) {
    return connected ? { peers: ranks, areaBytes: DEFAULT_AREA } : undefined;
  }
  if (size === "0") {
    return undefined;
  }
  const areaBytes = parseSize(size, "--channel-size");
  if (!connected) {
    throw new UsageError(
      `--channel-size needs --ranks, from 2 to ${SHM_PEERS}`,
      "a channel connects so many; --channel-size 0 is none",
    );
  }
  if (areaBytes === 0n || areaBytes > SHM_AREA_MAX) {
    throw new UsageError(`--channel-size ${size}: not from 4K to 1G`, "give a size such as 64M");
  }
  return { peers: ranks, areaBytes };
}

export interface YodPlan {
  /** One for each rank, without their standard streams. */
  readonly launches: readonly LaunchOptions[];
  /** What the ranks are in: rank n is peer n. */
  readonly channel: ChannelOptions | undefined;
  /** Whether ranks were asked for, be it one. */
  readonly ranked: boolean;
  readonly prefix: boolean;
  readonly stats: boolean;
  readonly json: boolean;
}

/** @throws UsageError, before anything is opened or made. */
export function planYod(app: string, args: readonly string[], flags: YodFlags): YodPlan {
  const cpus = parseCount(flags.cpus, "--cpus", 1);
  const size = flags.ranks === undefined ? 1 : parseCount(flags.ranks, "--ranks", 1, MAX_RANKS);
  const pin = flags.pin === undefined ? undefined : parseCpuList(flags.pin, "--pin");
  const env = environment(flags.env ?? [], flags.clearEnv === true);
  const roots = flags.root?.map(parseRoot);
  if (flags.prefix === true && flags.ranks === undefined) {
    throw new UsageError("--prefix needs --ranks", "without ranks the output is the application's as it is");
  }
  const gdb = planGdb(flags);
  if (gdb !== undefined && size > 1) {
    throw new UsageError(
      "--gdb is for one machine",
      "run one rank by itself, with V3M_RANK and V3M_RANKS set by --env",
    );
  }
  const base: LaunchOptions = {
    app,
    args,
    cpus,
    memory: parseSize(flags.memory, "--memory"),
    backing: backing(flags.hugepages),
    prefault: flags.prefault === true,
    countCalls: flags.stats === true,
    ...(flags.numaNode === undefined ? {} : { numaNode: parseCount(flags.numaNode, "--numa-node", 0, 1023) }),
    ...(roots === undefined ? {} : { roots }),
    ...(flags.timeout === undefined ? {} : { timeoutMs: parseDuration(flags.timeout, "--timeout") }),
    ...(flags.console === true ? { console: 2 } : {}),
    ...(flags.kvm === undefined ? {} : { kvmPath: flags.kvm }),
    ...(gdb === undefined ? {} : { gdb }),
  };
  const ranked = flags.ranks !== undefined;
  const launches = Array.from({ length: size }, (_, rank): LaunchOptions => {
    // Rank after rank takes its CPUs from the list.
    const own =
      pin === undefined ? undefined : pin.map((_cpu, i) => pin[(rank * cpus + i) % pin.length] ?? -1);
    return {
      ...base,
      env: ranked ? { ...env, ...rankVariables(rank, size) } : env,
      pid: process.pid + rank,
      ...(own === undefined ? {} : { pin: own }),
    };
  });
  return {
    launches,
    channel: planChannel(size, flags.channelSize),
    ranked,
    prefix: flags.prefix === true,
    stats: flags.stats === true,
    json: flags.json === true,
  };
}

const SAFE_WORD = /^[\w@%+=:,./-]+$/;

/** A word as a shell reads it. */
export function shellQuote(word: string): string {
  return SAFE_WORD.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** What to type to run the same in the nested machine. @param words everything after `v2m` */
export function nestedCommand(words: readonly string[]): string {
  return ["npx v2m-testbed -- npx v2m", ...words.map(shellQuote)].join(" ");
}
