// SPDX-License-Identifier: Apache-2.0
/**
 * Address translation for a tap device: by nftables, else by iptables. Rules carry the tap's name, so that whoever
 * finds some without a tap knows what to remove, and nobody else's are touched.
 */
import type { NatRange } from "../definition/types.js";
import { command, isInstalled } from "./command.js";
import { NetworkError } from "./errors.js";

/** How rules are made and removed. */
export interface Translator {
  /** Replaces the rules of this tap, if there are any. */
  add(tap: string, range: NatRange): Promise<void>;
  /** What is not there is no error. */
  remove(tap: string): Promise<void>;
  /** Taps that there are rules for. */
  taps(): Promise<string[]>;
}

const PREFIX = "v3m_";

/** A table for each tap: it comes and goes in one transaction. */
export const nftables: Translator = {
  async add(tap, { network, prefix }) {
    const table = `ip ${PREFIX}${tap}`;
    const rules = `
add table ${table}
delete table ${table}
table ${table} {
  chain postrouting {
    type nat hook postrouting priority srcnat
    ip saddr ${network}/${prefix} oifname != "${tap}" masquerade
  }
  chain forward {
    type filter hook forward priority filter
    oifname "${tap}" ct state established,related accept
    oifname "${tap}" drop
  }
}
`;
    await command("nft", ["-f", "-"], { input: rules });
  },
  async remove(tap) {
    const table = `ip ${PREFIX}${tap}`;
    await command("nft", ["-f", "-"], { input: `add table ${table}\ndelete table ${table}\n` });
  },
  async taps() {
    const text = await command("nft", ["-j", "list", "tables", "ip"]);
    const { nftables: all } = JSON.parse(text) as { nftables: { table?: { name: string } }[] };
    const names = all.flatMap(({ table }) => (table === undefined ? [] : [table.name]));
    return names.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
  },
};

const WAIT = ["-w", "10"];

/** Rules in the common chains, with a comment that names the tap. */
export const iptables: Translator = {
  async add(tap, { network, prefix }) {
    await this.remove(tap);
    const comment = ["-m", "comment", "--comment", `${PREFIX}${tap}`];
    const range = `${network}/${prefix}`;
    const established = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"];
    const rules: readonly (readonly string[])[] = [
      ["nat", "-A", "POSTROUTING", "-s", range, "!", "-o", tap, ...comment, "-j", "MASQUERADE"],
      ["filter", "-I", "FORWARD", "-o", tap, ...comment, "-j", "DROP"],
      ["filter", "-I", "FORWARD", "-o", tap, ...established, ...comment, "-j", "ACCEPT"],
      ["filter", "-I", "FORWARD", "-i", tap, ...comment, "-j", "ACCEPT"],
    ];
    for (const [table = "", ...rule] of rules) await command("iptables", [...WAIT, "-t", table, ...rule]);
  },
  async remove(tap) {
    for (const { table, rule, name } of await iptablesRules()) {
      if (name === tap) await command("iptables", [...WAIT, "-t", table, "-D", ...rule]);
    }
  },
  async taps() {
    return [...new Set((await iptablesRules()).map(({ name }) => name))];
  },
};

async function iptablesRules(): Promise<{ table: string; rule: string[]; name: string }[]> {
  const found = [];
  for (const table of ["nat", "filter"]) {
    const text = await command("iptables", [...WAIT, "-t", table, "-S"]);
    for (const line of text.split("\n")) {
      const name = /--comment "?v3m_([^\s"]+)"?/.exec(line)?.[1];
      if (name === undefined) continue;
      const rule = line.split(" ").slice(1); // without -A
      found.push({ table, rule: rule.map((word) => word.replace(/^"(.*)"$/, "$1")), name });
    }
  }
  return found;
}

async function translator(): Promise<Translator | undefined> {
  if (await isInstalled("nft")) return nftables;
  return (await isInstalled("iptables")) ? iptables : undefined;
}

/** @throws NetworkError E_UNSUPPORTED where the host has neither nftables nor iptables; E_PERMISSION, E_NETWORK */
export async function addNat(tap: string, range: NatRange): Promise<void> {
  if (!/^[\w.-]+$/.test(tap)) {
    throw new NetworkError("E_INVALID", `rules cannot name the tap device ${tap}`, {
      hint: "give the NIC a tap of letters, digits, dots, dashes and underscores",
    });
  }
  const by = await translator();
  if (by === undefined) {
    throw new NetworkError("E_UNSUPPORTED", "address translation needs nft or iptables", {
      hint: "sudo apt install nftables",
    });
  }
  await by.add(tap, range);
}

/** Remove the rules of taps that are not there. @returns taps that there still are rules for */
export async function removeStaleNat(isThere: (tap: string) => boolean): Promise<string[]> {
  const by = await translator();
  const kept: string[] = [];
  for (const tap of (await by?.taps()) ?? []) {
    if (isThere(tap)) kept.push(tap);
    else await by?.remove(tap);
  }
  return kept;
}
