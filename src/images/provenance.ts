// SPDX-License-Identifier: Apache-2.0
/** Where an image comes from, put down when it is made. */
import { basename } from "node:path";
import type { Provenance } from "./types.js";

/** The command line of this process. */
function commandLine(): string {
  const [, script = "node", ...rest] = process.argv;
  const quoted = rest.map((word) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
  );
  return [basename(script).replace(/^main\.js$/, "v2m"), ...quoted].join(" ");
}

/** @param source what it was made of */
export function provenance(source: string, more: Partial<Omit<Provenance, "source">> = {}): Provenance {
  return {
    source,
    command: more.command ?? commandLine(),
    tools: { node: process.versions.node, ...more.tools },
    date: more.date ?? new Date().toISOString(),
    inputs: more.inputs ?? [],
  };
}
