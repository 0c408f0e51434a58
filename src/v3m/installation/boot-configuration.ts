// SPDX-License-Identifier: Apache-2.0
/**
 * What a CD-ROM's boot loader would boot, by its configuration: ISOLINUX and its like, or GRUB's menu. GRUB's
 * configuration is a program; only entries that say plainly what they boot are taken.
 */

export interface BootEntry {
  readonly label: string;
  /** Path on the CD. */
  readonly kernel: string;
  readonly initrds: readonly string[];
  readonly cmdline: string;
}

interface Entry {
  label: string;
  kernel?: string;
  initrds: string[];
  cmdline: string;
  isDefault?: boolean;
}

/** `b.cfg` beside `/isolinux/a.cfg`; names on the CD are told apart without regard to case. */
export function besides(path: string, name: string): string {
  return name.startsWith("/") ? name : `${path.slice(0, path.lastIndexOf("/"))}/${name}`;
}

const complete = (entry: Entry | undefined): entry is Entry & { kernel: string } =>
  entry?.kernel !== undefined &&
  !/\.(c32|com|bin|img|bss)$/i.test(entry.kernel) &&
  !/[$(]/.test(entry.kernel);

function chosen(entries: readonly Entry[], name: string | undefined): BootEntry | undefined {
  const usable = entries.filter(complete);
  return usable.find(({ label }) => label === name) ?? usable.find(({ isDefault }) => isDefault) ?? usable[0];
}

/** `initrd=a,b` out of a command line. */
function takeInitrd(entry: Entry): void {
  const words = entry.cmdline.split(/\s+/).filter((word) => word !== "");
  for (const word of words) {
    if (word.startsWith("initrd=") && entry.initrds.length === 0) entry.initrds = word.slice(7).split(",");
  }
  entry.cmdline = words.filter((word) => !word.startsWith("initrd=")).join(" ");
}

/**
 * The entry that ISOLINUX would boot when nobody types anything.
 * @param text of the configuration, with what it includes in its place
 */
export function isolinuxChoice(text: string): BootEntry | undefined {
  const entries: Entry[] = [];
  let wanted: string | undefined;
  for (const line of text.split("\n")) {
    const [word = "", ...rest] = line.trim().split(/\s+/);
    const value = rest.join(" ");
    const entry = entries.at(-1);
    switch (word.toLowerCase()) {
      case "default":
      case "ontimeout":
        wanted = value.replace(/^label\s+/i, "");
        break;
      case "label":
        entries.push({ label: value, initrds: [], cmdline: "" });
        break;
      case "menu":
        if (entry !== undefined && /^default$/i.test(value)) entry.isDefault = true;
        break;
      case "kernel":
      case "linux":
        if (entry !== undefined) entry.kernel = value;
        break;
      case "initrd":
        if (entry !== undefined) entry.initrds = value.split(",");
        break;
      case "append":
        if (entry !== undefined) entry.cmdline = value === "-" ? "" : value;
        break;
    }
  }
  entries.forEach(takeInitrd);
  return chosen(entries, wanted);
}

/** Words of a line of GRUB's, without its quotes. */
function grubWords(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? "");
}

/** The entry that GRUB would boot when nobody types anything. */
export function grubChoice(text: string): BootEntry | undefined {
  const entries: Entry[] = [];
  let wanted: string | undefined;
  for (const line of text.split("\n").map((one) => one.trim())) {
    const [word = "", ...rest] = grubWords(line);
    const entry = entries.at(-1);
    if (word === "set" && rest[0]?.startsWith("default=")) {
      wanted = grubWords(rest.join(" ").slice("default=".length))[0];
    } else if (word === "menuentry") {
      entries.push({ label: rest[0] ?? "", initrds: [], cmdline: "" });
    } else if (/^linux(efi|16)?$/.test(word) && entry !== undefined) {
      entry.kernel = rest[0] ?? "";
      entry.cmdline = rest.slice(1).join(" ");
    } else if (/^initrd(efi|16)?$/.test(word) && entry !== undefined) {
      entry.initrds = rest;
    }
  }
  const byNumber = /^\d+$/.test(wanted ?? "") ? entries[Number(wanted)]?.label : wanted;
  return chosen(entries, byNumber);
}
