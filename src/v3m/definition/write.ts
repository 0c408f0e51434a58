// SPDX-License-Identifier: Apache-2.0
/** Definitions as YAML and JSON, and moved to another directory with their paths still right. */
import { isAbsolute, relative, resolve } from "node:path";
import { stringify } from "yaml";
import type { DefinitionInput } from "./schema.js";

/** The order in which keys are written: what matters most first. */
const ORDER = [
  "name",
  "type",
  "option",
  "description",
  "uuid",
  "cpus",
  "memory",
  "boot",
  "disks",
  "cdrom",
  "nics",
];

function ordered(input: DefinitionInput): object {
  const rank = (key: string) => (ORDER.includes(key) ? ORDER.indexOf(key) : ORDER.length);
  return Object.fromEntries(Object.entries(input).toSorted(([a], [b]) => rank(a) - rank(b)));
}

export function toYaml(input: DefinitionInput): string {
  return stringify(ordered(input), { lineWidth: 110 });
}

export function toJson(input: DefinitionInput): string {
  return `${JSON.stringify(ordered(input), null, 2)}\n`;
}

type Mapper = (path: string) => string;

function mapKey<T extends object>(value: T, key: keyof T & string, map: Mapper): T {
  const path = value[key];
  return typeof path === "string" ? { ...value, [key]: map(path) } : value;
}

/** The same definition with every path in it replaced. */
export function mapPaths(input: DefinitionInput, map: Mapper): DefinitionInput {
  const list = <T extends string | { path?: string | undefined }>(
    items: readonly T[] | undefined,
  ): T[] | undefined =>
    items?.map((item) => {
      if (typeof item === "string") return map(item) as T;
      return item.path === undefined ? item : ({ ...(item as object), path: map(item.path) } as T);
    });
  const overlay: Mapper = (path) => (path === "temporary" ? path : map(path));
  let result = mapKey(mapKey(input, "cdrom", map), "kvm", map);
  const { boot, console: output } = result;
  if (typeof boot === "object" && "kernel" in boot) {
    result = { ...result, boot: mapKey(mapKey(boot, "kernel", map), "initrd", map) };
  }
  if (output !== undefined) result = { ...result, console: mapKey(output, "log", map) };
  const disks = list(result.disks)?.map((disk) =>
    typeof disk === "string" ? disk : mapKey(disk, "overlay", overlay),
  );
  const [pmem, modules] = [list(result.pmem), list(result.modules)];
  return {
    ...result,
    ...(disks === undefined ? {} : { disks }),
    ...(pmem === undefined ? {} : { pmem }),
    ...(modules === undefined ? {} : { modules }),
  };
}

/** What was relative to one directory becomes relative to another. */
export function moveDefinition(input: DefinitionInput, from: string, to: string): DefinitionInput {
  return resolve(from) === resolve(to)
    ? input
    : mapPaths(input, (path) => (isAbsolute(path) ? path : relative(to, resolve(from, path))));
}
