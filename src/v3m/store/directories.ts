// SPDX-License-Identifier: Apache-2.0
/** Where the state of VMs and their sockets are. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { shortHash } from "./unique.js";

export interface Directories {
  /** What outlives a reboot. */
  readonly state: string;
  /** Sockets, and what else may be lost at a reboot. */
  readonly runtime: string;
}

/** A variable of the environment that holds an absolute path; others count as not set, as XDG says. */
function fromEnv(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const value = env[name];
  return value !== undefined && isAbsolute(value) ? value : undefined;
}

function baseRuntime(env: NodeJS.ProcessEnv, uid: number, state: string): string {
  if (uid === 0) return "/run/v3m";
  const xdg = fromEnv(env, "XDG_RUNTIME_DIR");
  if (xdg !== undefined) return join(xdg, "v3m");
  const user = `/run/user/${uid}`;
  return existsSync(user) ? join(user, "v3m") : join(state, "run");
}

/**
 * `V3M_STATE_DIR` and `V3M_RUNTIME_DIR` win; then `/var/lib/v3m` and `/run/v3m` for root, and what XDG says
 * for others. Every state directory has a runtime directory of its own.
 */
export function directories(
  given: Partial<Directories> = {},
  env: NodeJS.ProcessEnv = process.env,
  uid: number = process.geteuid?.() ?? 0,
): Directories {
  const usual =
    uid === 0
      ? "/var/lib/v3m"
      : join(fromEnv(env, "XDG_STATE_HOME") ?? join(homedir(), ".local/state"), "v3m");
  const state = resolve(given.state ?? fromEnv(env, "V3M_STATE_DIR") ?? usual);
  const runtime = given.runtime ?? fromEnv(env, "V3M_RUNTIME_DIR");
  if (runtime !== undefined) return { state, runtime: resolve(runtime) };
  const base = baseRuntime(env, uid, state);
  return { state, runtime: state === usual ? base : join(base, shortHash(state)) };
}

/** Of channels of shared memory, beside what machines have: no machine's name begins with a dot. */
export const channelsDirectory = (runtime: string): string => join(runtime, ".ch");

/** Socket addresses have 107 bytes: a long name is cut, and told apart by what it is cut from. */
export function shortName(name: string): string {
  return name.length <= 24 ? name : `${name.slice(0, 15)}.${shortHash(name)}`;
}
