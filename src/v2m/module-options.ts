// SPDX-License-Identifier: Apache-2.0
/** `--module PATH[,ARGS]`: adaptation modules that `v2m run` loads before the start. */
import type { Command } from "commander";
import { V3mError } from "../errors.js";
import type { Machine } from "../vmm/machine.js";
import { UsageError } from "./values.js";

/** As commander gives them. */
export interface ModuleFlags {
  readonly module?: readonly string[];
}

export interface ModulePlan {
  readonly path: string;
  /** What is behind the first comma, for the module to read. */
  readonly args: string;
}

export const MODULE_HELP = `
Modules: --module FILE[,ARGUMENTS] puts device models, hypercalls and exit hooks into the
machine (docs/reference/modules.md): a shared object (.so), or JavaScript with a default
export. It runs with this user's rights.
`;

export function addModuleOptions(command: Command): void {
  command.option(
    "--module <path>",
    "an adaptation module (.so or .js), with arguments behind a comma; repeatable",
    (value: string, before: readonly string[] | undefined) => [...(before ?? []), value],
  );
}

/** A comma in the path is written twice. @throws UsageError */
export function planModules(flags: readonly string[] | undefined): ModulePlan[] {
  return (flags ?? []).map((text) => {
    const match = /^((?:[^,]|,,)+)(?:,([^,].*|))?$/s.exec(text);
    if (match?.[1] === undefined) {
      throw new UsageError(`--module ${text}: no path in front of the comma`, "--module PATH[,ARGUMENTS]");
    }
    return { path: match[1].replaceAll(",,", ","), args: match[2] ?? "" };
  });
}

/** Load them in order; failures later on are told on standard error. */
export async function loadModules(machine: Machine, plans: readonly ModulePlan[]): Promise<void> {
  machine.on("moduleFailed", (error) =>
    process.stderr.write(`\r\n[v2m] ${error.message}; the guest goes on\r\n`),
  );
  for (const { path, args } of plans) {
    try {
      await machine.loadModule(path, args);
    } catch (cause) {
      if (cause instanceof V3mError && cause.code !== "E_STATE") throw cause;
      const what = cause instanceof Error ? cause.message : String(cause);
      throw new V3mError("E_MODULE", `${path}: ${what}`, {
        cause,
        hint: "the module refused: see its documentation",
      });
    }
  }
}
