// SPDX-License-Identifier: Apache-2.0
/** `--gdb` and `--gdb-wait`, of `v2m run` and `v2m yod`. */
import { type Command, Option } from "commander";
import { V3mError } from "../errors.js";
import { type GdbOptions, type GdbServer, gdbEndpoint } from "../vmm/gdb.js";
import { UsageError } from "./values.js";

/** As commander gives them. */
export interface GdbFlags {
  readonly gdb?: string;
  readonly gdbWait?: boolean;
}

export function addGdbOptions(command: Command): void {
  command
    .addOption(
      new Option("--gdb <port|socket>", "let gdb connect: a TCP port on 127.0.0.1, or a socket's path"),
    )
    .option("--gdb-wait", "with --gdb: the guest does not start before a gdb lets it go");
}

/** @throws UsageError */
export function planGdb(flags: GdbFlags): GdbOptions | undefined {
  if (flags.gdb === undefined) {
    if (flags.gdbWait === true) {
      throw new UsageError("--gdb-wait needs --gdb", "say where gdb connects: --gdb 1234, or --gdb ./socket");
    }
    return undefined;
  }
  try {
    return { ...gdbEndpoint(flags.gdb), wait: flags.gdbWait === true };
  } catch (error) {
    throw error instanceof V3mError ? new UsageError(`--gdb ${error.message}`, error.hint) : error;
  }
}

/** What to type in gdb, on standard error: the port may be one that was free. */
export function announceGdb(server: GdbServer, wait: boolean): void {
  const waits = wait ? "; the guest waits for it" : "";
  process.stderr.write(`[v2m] in gdb: ${server.command}${waits}\n`);
}
