// SPDX-License-Identifier: Apache-2.0
/** The V3M front end as the command line has it: back ends of others from the environment, and how long to wait. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { BackendRegistry } from "../v3m/registry.js";
import { V3m } from "../v3m/v3m.js";
import { parseDuration, UsageError } from "./values.js";

/** Options that all verbs on VMs have, as commander gives them. */
export interface FrontFlags {
  readonly json?: boolean;
  readonly wait?: string;
}

/** Lines of the file of back ends: absolute paths, comments after #. */
function configured(env: NodeJS.ProcessEnv): string[] {
  const home = env.XDG_CONFIG_HOME;
  const base = home !== undefined && isAbsolute(home) ? home : join(homedir(), ".config");
  let text: string;
  try {
    text = readFileSync(join(base, "v3m", "backends"), "utf8");
  } catch {
    return [];
  }
  return text.split("\n").map((line) => line.replace(/#.*/, "").trim());
}

/** Modules of back ends that V3M does not bring along: V3M_BACKENDS, and the file `v3m/backends` of the configuration. */
function modules(env: NodeJS.ProcessEnv): string[] {
  const paths = [...(env.V3M_BACKENDS ?? "").split(":"), ...configured(env)].filter((path) => path !== "");
  const relative = paths.find((path) => !isAbsolute(path));
  if (relative !== undefined) {
    throw new UsageError(`${relative}: a back end's path must be absolute`, "correct V3M_BACKENDS");
  }
  return [...new Set(paths)];
}

async function registry(): Promise<BackendRegistry> {
  const { builtinRegistry } = await import("../v3m/builtin.js");
  const { registerModules } = await import("../v3m/plugins.js");
  const all = builtinRegistry();
  await registerModules(all, modules(process.env));
  return all;
}

/** @throws UsageError */
export function openFront(flags: FrontFlags): V3m {
  return new V3m({
    registry,
    ...(flags.wait === undefined
      ? {}
      : { waitMs: flags.wait === "0" ? 0 : parseDuration(flags.wait, "--wait") }),
  });
}

/** Aborted by Ctrl-C and its like; what is under way then ends in order. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  #by: NodeJS.Signals | undefined;

  constructor() {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, this.#on);
  }

  readonly #on = (signal: NodeJS.Signals): void => {
    this.#by ??= signal;
    this.#controller.abort(signal);
  };

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The signal that came, if one did. */
  get by(): NodeJS.Signals | undefined {
    return this.#by;
  }

  [Symbol.dispose](): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, this.#on);
  }
}
