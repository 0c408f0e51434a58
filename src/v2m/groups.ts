// SPDX-License-Identifier: Apache-2.0
/** Which module knows which verbs, so that a command line loads its own and no other. */
import type { Command } from "commander";

/** Adds verbs to the program. @param finish is told the exit code */
type Add = (program: Command, finish: (code: number) => void) => void;

interface Group {
  readonly verbs: readonly string[];
  readonly load: () => Promise<Add>;
}

/** In the order of `v2m --help`. A test compares the names with what the modules add. */
export const GROUPS: readonly Group[] = [
  {
    verbs: ["run", "doctor"],
    load: async () => (await import("./host-commands.js")).addHostCommands,
  },
  {
    verbs: ["list", "status", "console", "stats", "events", "capabilities"],
    load: async () => (await import("./look-commands.js")).addLookCommands,
  },
  {
    verbs: ["define", "undefine", "start", "stop", "reset", "pause", "resume"],
    load: async () => (await import("./life-commands.js")).addLifeCommands,
  },
  {
    verbs: ["snapshot", "restore", "fork", "migrate"],
    load: async () => (await import("./state-commands.js")).addStateCommands,
  },
  {
    verbs: ["show", "validate", "convert", "schema"],
    load: async () => (await import("./definition-commands.js")).addDefinitionCommands,
  },
  { verbs: ["image"], load: async () => (await import("./image-commands.js")).addImageCommands },
  { verbs: ["yod"], load: async () => (await import("./yod-command.js")).addYodCommand },
  { verbs: ["noise"], load: async () => (await import("./noise-command.js")).addNoiseCommand },
  { verbs: ["bench"], load: async () => (await import("./bench-command.js")).addBenchCommand },
  { verbs: ["completion"], load: async () => (await import("./completion-command.js")).addCompletionCommand },
];

export const VERBS: readonly string[] = GROUPS.flatMap((group) => group.verbs);

/** The groups that a command line needs: that of its verb, or all (help, completion, a verb that is none). */
export function groupsFor(verb: string | undefined): readonly Group[] {
  const own = GROUPS.filter((group) => verb !== "completion" && group.verbs.includes(verb ?? ""));
  return own.length > 0 ? own : GROUPS;
}
