// SPDX-License-Identifier: Apache-2.0
/** `--shm channel=ring,peer=0`: a place in a channel of shared memory, by the keys of a definition's `shm`. */
import { join } from "node:path";
import { IDENTIFIER, SHM_DEFAULTS } from "../v3m/definition/types.js";
import { channelsDirectory, directories } from "../v3m/store/directories.js";
import type { DirectoryChannelPlace } from "../vmm/channel.js";
import { needed, part, unknown } from "./option-parts.js";
import { parseCount, parseList, parseSize, UsageError } from "./values.js";

export const SHM_HELP = `\
  --shm channel=NAME,peer=ID[,peers=N][,size=SIZE][,common=SIZE][,visible-to=ID+ID]
      memory that this machine writes and others of this user read (docs/reference/shm.md).
      All machines of a channel name it alike, with as many peers (2) and as much for each
      (1M), each with an id of its own from 0. common: memory that all of them write (0).
      visible-to: who may read its memory and ring it (all, none, or ids with + between
      them; all).
`;

const OPTION = "--shm";
const PEERS_MAX = 64;
const MEMORY_MAX = 1n << 30n;

const KEYS = "channel=NAME, peer=ID, peers=N, size=SIZE, common=SIZE or visible-to=ID+ID";

const peerId = (text: string, key: string) => parseCount(text, `${OPTION} ${key}`, 0, PEERS_MAX - 1);

function visibleTo(text: string): "all" | number[] {
  if (text === "all") return text;
  return text === "none" ? [] : text.split("+").map((id) => peerId(id, "visible-to"));
}

/** @throws UsageError */
export function parseShm(text: string): DirectoryChannelPlace {
  const found: { -readonly [K in keyof DirectoryChannelPlace]?: DirectoryChannelPlace[K] } = {};
  for (const { key, value } of parseList(text).map(part)) {
    if (key === "channel") found.directory = channel(needed(OPTION, key, value));
    else if (key === "peer") found.peer = peerId(needed(OPTION, key, value), key);
    else if (key === "peers") {
      found.peers = parseCount(needed(OPTION, key, value), `${OPTION} ${key}`, 2, PEERS_MAX);
    } else if (key === "size") found.areaBytes = memory(needed(OPTION, key, value), `${OPTION} ${key}`, "1M");
    else if (key === "common") found.commonBytes = commonBytes(needed(OPTION, key, value));
    else if (key === "visible-to") found.visibleTo = visibleTo(needed(OPTION, key, value));
    else throw unknown(OPTION, text, key, KEYS);
  }
  const { directory, peer, peers = SHM_DEFAULTS.peers, visibleTo: seen, ...rest } = found;
  if (directory === undefined || peer === undefined) {
    const key = directory === undefined ? "channel=NAME" : "peer=ID";
    throw new UsageError(`${OPTION} ${text}: no ${key}`, "such as --shm channel=ring,peer=0");
  }
  const stranger = [peer, ...(seen === undefined || seen === "all" ? [] : seen)].find((id) => id >= peers);
  if (stranger !== undefined) {
    throw new UsageError(
      `${OPTION} ${text}: ${stranger} is not one of ${peers} peers`,
      `give 0 to ${peers - 1}, or more peers`,
    );
  }
  const place = { areaBytes: SHM_DEFAULTS.size, ...rest, directory, peer, peers };
  return seen === undefined ? place : { ...place, visibleTo: seen };
}

function memory(text: string, option: string, example: string): bigint {
  const bytes = parseSize(text, option);
  if (bytes === 0n || bytes > MEMORY_MAX) {
    throw new UsageError(`${option} ${text}: not from 4K to 1G`, `give a size such as ${example}`);
  }
  return bytes;
}

const commonBytes = (text: string) => (text === "0" ? 0n : memory(text, `${OPTION} common`, "64K"));

/** Where defined VMs have it as well. */
function channel(name: string): string {
  if (!new RegExp(IDENTIFIER.pattern).test(name)) {
    throw new UsageError(`${OPTION} channel=${name}: not the name of a channel`, IDENTIFIER.help);
  }
  return join(channelsDirectory(directories().runtime), name);
}
