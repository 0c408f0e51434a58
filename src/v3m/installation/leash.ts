// SPDX-License-Identifier: Apache-2.0
/**
 * Machines of back ends outlive the command that started them; that of an installation must not. A process of its own
 * waits for the command's end, and then ends the machine and removes what was made, if the command did not say that
 * it has done so.
 *
 *     node leash.js DIRECTORY FILE…      definition.json is in the directory; files are the unfinished image
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { VmDefinition } from "../definition/types.js";
import { endMachine, privateBackend } from "./private-host.js";

export class Leash {
  readonly #release: () => void;

  constructor(directory: string, files: readonly string[]) {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), directory, ...files], {
      detached: true, // Ctrl-C is the command's
      stdio: ["pipe", "ignore", "ignore"],
    });
    child.on("error", () => {}); // then nobody cleans up after a kill
    child.stdin.on("error", () => {});
    child.unref();
    this.#release = () => child.stdin.end("done");
  }

  /** All is cleaned up. */
  release(): void {
    this.#release();
  }
}

async function main([directory = "", ...files]: readonly string[]): Promise<void> {
  let said = "";
  for await (const chunk of process.stdin) said += String(chunk);
  if (said === "done") return;
  const definition = JSON.parse(readFileSync(join(directory, "definition.json"), "utf8")) as VmDefinition;
  await endMachine(directory, await privateBackend(directory, definition), definition);
  for (const file of files) await rm(file, { recursive: true, force: true });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
