// SPDX-License-Identifier: Apache-2.0
/** A 2007 profile as a definition of today. */
import { fileURLToPath } from "node:url";
import { formatPath, type ParsedDocument, type Path, type Position } from "../definition/document.js";
import { DefinitionError, type Problem } from "../errors.js";
import { readProfile } from "./grammar.js";
import type { Element } from "./tree.js";

/** What BRIDGED_TAP without an option means. */
export const DEFAULT_BRIDGE = "br0";

class Reader {
  readonly problems: Problem[] = [];
  /** Positions by the path of today's definition. */
  readonly positions = new Map<string, Position>();

  #note(path: Path, element: Element): void {
    this.positions.set(formatPath(path), { line: element.line, column: element.column });
  }

  #problem(element: Element, path: string, message: string, hint: string): void {
    this.problems.push({ message, path, line: element.line, column: element.column, hint });
  }

  /** A whole number from 1. */
  #count(element: Element, text: string, path: string): number {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
    if (value === 0) this.#problem(element, path, `${JSON.stringify(text)} is not a number from 1`, "as 512");
    return value;
  }

  /** A path, or a file:// URL of this host. */
  #file(element: Element, path: string): string {
    const { text } = element;
    if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return text;
    try {
      const url = new URL(text);
      if (url.protocol !== "file:") throw new Error(`${url.protocol}// is not supported`);
      if (url.host !== "" && url.host !== "localhost") throw new Error("the file is on another host");
      return fileURLToPath(new URL(`file://${url.pathname}`));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#problem(element, path, `${JSON.stringify(text)}: ${why}`, "give a path, or file:///path");
      return text;
    }
  }

  /** What the option of a NIC's type says, in the words of today. */
  #nicOption(type: string, option: string | undefined, element: Element, path: string): object {
    switch (type) {
      case "TUN/TAP":
        if (option === undefined) return {};
        return /^[\d.]+(\/\d+)?$/.test(option) ? { address: option } : { tap: option };
      case "TUN/TAP+NAT":
        return option === undefined ? {} : { network: option };
      case "BRIDGED_TAP":
        return { bridge: option ?? DEFAULT_BRIDGE };
      case "VLAN": {
        const match = /^(.+)\.(\d{1,4})$/.exec(option ?? "");
        if (match === null) {
          const is = option === undefined ? "is missing" : `${JSON.stringify(option)} is no VLAN`;
          this.#problem(element, path, `option ${is}`, 'give interface and VLAN id: option="eth0.100"');
          return {};
        }
        return { parent: match[1], vlan: Number(match[2]) };
      }
      default:
        return {};
    }
  }

  #nic(element: Element, index: number): object {
    const [type, mac] = element.children;
    if (type === undefined || mac === undefined) return {};
    const option = type.attributes.get("option")?.trim();
    const path = ["nics", index];
    this.#note(path, element);
    this.#note([...path, "mac"], mac);
    for (const key of ["type", "tap", "address", "network", "bridge", "parent", "vlan"]) {
      this.#note([...path, key], type);
    }
    const more = this.#nicOption(type.text, option, type, `profile/${element.name}/type`);
    return { type: type.text, mac: mac.text, ...more };
  }

  #disks(image: Element, disks: readonly Element[]): object[] {
    const size = image.attributes.get("size")?.trim();
    this.#note(["disks", 0], image);
    const first = {
      path: this.#file(image, "profile/image"),
      ...(size === undefined ? {} : { size: `${this.#count(image, size, "profile/image")}M` }),
    };
    const rest = disks.map((disk, i) => {
      this.#note(["disks", i + 1], disk);
      const path = this.#file(disk, "profile/virtual_disks/virtual_disk");
      return { id: disk.attributes.get("id")?.trim(), path };
    });
    return [first, ...rest];
  }

  read(root: Element): unknown {
    const child = (name: string) => root.children.find((element) => element.name === name);
    const simple = (name: string, key: string) => {
      const element = child(name);
      if (element !== undefined) this.#note([key], element);
      return element;
    };
    const type = simple("type", "type");
    const cpu = simple("cpu", "cpus");
    const memory = simple("memory", "memory");
    const cdrom = simple("cdrom", "cdrom");
    const image = child("image");
    const option = type?.attributes.get("option")?.trim();
    const nics = ["nic1", "nic2"].flatMap((name) => child(name) ?? []);
    this.#note([], root);
    return {
      name: simple("name", "name")?.text,
      type: type?.text,
      ...(option === undefined || option === "" ? {} : { option }),
      ...(cpu === undefined ? {} : { cpus: this.#count(cpu, cpu.text, "profile/cpu") }),
      ...(memory === undefined ? {} : { memory: `${this.#count(memory, memory.text, "profile/memory")}M` }),
      boot: "disk",
      disks: image === undefined ? [] : this.#disks(image, child("virtual_disks")?.children ?? []),
      ...(cdrom === undefined ? {} : { cdrom: this.#file(cdrom, "profile/cdrom") }),
      ...(nics.length === 0 ? {} : { nics: nics.map((nic, index) => this.#nic(nic, index)) }),
    };
  }
}

/** @throws DefinitionError with the lines of what is wrong */
export function profileDocument(text: string, source: string): ParsedDocument {
  const reader = new Reader();
  const value = reader.read(readProfile(text, source));
  if (reader.problems.length > 0) throw new DefinitionError(source, reader.problems);
  return {
    value,
    locate(path) {
      for (let length = path.length; length >= 0; length--) {
        const position = reader.positions.get(formatPath(path.slice(0, length)));
        if (position !== undefined) return position;
      }
      return undefined;
    },
  };
}
