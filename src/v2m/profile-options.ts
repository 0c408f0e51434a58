// SPDX-License-Identifier: Apache-2.0
/** The command lines of 2007: `v2m profile.xml --boot-vm`. This file knows their words, profile.ts does them. */
import { UsageError } from "./values.js";

/** What each option asks for; `migrate` has a value, the node. */
export const PROFILE_OPTIONS = {
  "--boot-vm": "boot",
  "--create-vm-image-from-cdrom": "image-from-cdrom",
  "--install-vm-with-oscar": "image-from-packages",
  "--migrate-vm": "migrate",
  "--pause-vm": "pause",
  "--unpause-vm": "unpause",
  "--status": "status",
  "--validate-profile": "validate",
} as const;

export type ProfileAction = (typeof PROFILE_OPTIONS)[keyof typeof PROFILE_OPTIONS];

export interface ProfileCommand {
  readonly profile: string;
  readonly action: ProfileAction;
  /** Where to migrate. */
  readonly node?: string;
  /** The package set to install; default: that of compute nodes. */
  readonly set?: string;
  readonly json: boolean;
}

function isProfileOption(word: string): word is keyof typeof PROFILE_OPTIONS {
  return Object.hasOwn(PROFILE_OPTIONS, word);
}

/** @throws UsageError for what is neither a file nor one of these options */
function parse(words: readonly string[]): ProfileCommand {
  const HINT = "v2m --help shows the command lines";
  let profile: string | undefined;
  let action: ProfileAction | undefined;
  let node: string | undefined;
  let set: string | undefined;
  let json = false;
  for (let i = 0; i < words.length; i++) {
    const [word = "", value] = (words[i] ?? "").split(/=(.*)/s);
    if (word === "--json") json = true;
    else if (isProfileOption(word)) {
      if (action !== undefined) throw new UsageError(`${word}: one of these options at a time`, HINT);
      action = PROFILE_OPTIONS[word];
      if (action === "migrate") node = value ?? words[++i];
      else if (action === "image-from-packages") set = value;
      else if (value !== undefined) throw new UsageError(`${word} takes no value`, HINT);
    } else if (word.startsWith("-")) throw new UsageError(`${word}: unknown option`, HINT);
    else if (profile !== undefined) throw new UsageError(`${words[i]}: one profile at a time`, HINT);
    else profile = words[i];
  }
  if (profile === undefined) throw new UsageError("no profile is given", "v2m profile.xml --boot-vm");
  if (action === "migrate" && (node === undefined || node === "" || node.startsWith("-"))) {
    throw new UsageError("--migrate-vm needs the node to go to", "v2m profile.xml --migrate-vm NODE");
  }
  return {
    profile,
    action: action ?? "validate",
    json,
    ...(node === undefined ? {} : { node }),
    ...(set === undefined ? {} : { set }),
  };
}

/**
 * Recognise a command line of 2007: no verb, and one of its options.
 * @param verbs those of today
 * @returns undefined for other command lines
 * @throws UsageError
 */
export function profileCommand(
  argv: readonly string[],
  verbs: readonly string[],
): ProfileCommand | undefined {
  if (verbs.includes(argv[0] ?? "")) return undefined;
  const words = argv.map((word) => word.split("=", 1)[0] ?? "");
  return words.some(isProfileOption) ? parse(argv) : undefined;
}
