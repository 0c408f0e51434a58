// SPDX-License-Identifier: Apache-2.0
/** A definition as a 2007 profile, where it says no more than a profile can. */
import type { DefinitionInput } from "../definition/schema.js";
import type { VmDefinition, VmNic } from "../definition/types.js";
import { DefinitionError, type Problem } from "../errors.js";

const MIB = 2 ** 20;

/** What a profile cannot say, by the key that says it. */
function inexpressible(input: DefinitionInput, vm: VmDefinition): [path: string, why: string][] {
  const found: [string, string][] = [];
  const refuse = (path: string, when: boolean, why = "a profile has no place for it") => {
    if (when) found.push([path, why]);
  };
  refuse("description", vm.description !== undefined);
  refuse("uuid", input.uuid !== undefined);
  refuse("topology", vm.topology !== undefined);
  refuse("pin", vm.pin.length > 0);
  refuse("performance", vm.performance !== undefined);
  refuse("memory", vm.memory.bytes % MIB !== 0, "a profile counts in MiB");
  refuse("memory.backing", vm.memory.backing !== "thp");
  refuse("memory.prefault", vm.memory.prefault);
  refuse("memory.numaNode", vm.memory.numaNode !== undefined);
  refuse("boot", vm.boot.from !== "disk", "a profile boots its image");
  refuse("boot.disk.cmdline", vm.boot.from === "disk" && vm.boot.cmdline !== "");
  refuse("disks", vm.disks.length === 0, "a profile has an image");
  vm.disks.forEach((disk, i) => {
    const at = `disks[${i}]`;
    refuse(`${at}.id`, i === 0 && disk.id !== "disk0", "the image of a profile has no id");
    refuse(`${at}.image`, disk.image !== undefined, "a profile has paths of images");
    refuse(`${at}.format`, disk.format !== "raw", "images of a profile are raw");
    refuse(`${at}.size`, i > 0 && disk.size !== undefined, "only the image of a profile has a size");
    refuse(`${at}.size`, (disk.size ?? 0) % MIB !== 0, "a profile counts in MiB");
    refuse(`${at}.readOnly`, disk.readOnly);
    refuse(`${at}.overlay`, disk.overlay !== undefined);
    refuse(`${at}.direct`, disk.direct);
    refuse(`${at}.serial`, disk.serial !== undefined);
  });
  refuse("nics", vm.nics.length > 2, "a profile has two interfaces at most");
  vm.nics.forEach((nic, i) => {
    const given = input.nics?.[i];
    const tap = given !== undefined && "tap" in given && given.tap !== undefined;
    refuse(`nics[${i}].type`, nic.type === "user", "a profile has no such type");
    refuse(`nics[${i}].mtu`, nic.mtu !== undefined);
    refuse(`nics[${i}].vhost`, nic.type !== "user" && nic.vhost);
    refuse(`nics[${i}].tap`, tap && !(nic.type === "TUN/TAP" && nic.address === undefined));
  });
  refuse("pmem", vm.pmem.length > 0);
  refuse("shm", vm.shm.length > 0);
  refuse("vfio", vm.vfio.length > 0);
  refuse("console", input.console !== undefined);
  refuse("rng", !vm.rng);
  refuse("balloon", vm.balloon);
  refuse("vsock", vm.vsock !== undefined);
  refuse("generationId", vm.generationId !== undefined);
  refuse("onReset", vm.onReset !== "reboot");
  refuse("stopTimeout", input.stopTimeout !== undefined);
  refuse("kvm", vm.kvm !== undefined);
  refuse("jail", vm.jail.without.length > 0);
  refuse("modules", vm.modules.length > 0);
  refuse("labels", Object.keys(vm.labels).length > 0);
  return found;
}

function escapeXml(text: string): string {
  const names: Readonly<Record<string, string>> = { "&": "amp", "<": "lt", ">": "gt", '"': "quot" };
  return text.replaceAll(/[&<>"]/g, (c) => `&${names[c]};`);
}

function nicOption(
  nic: VmNic,
  input: NonNullable<DefinitionInput["nics"]>[number] | undefined,
): string | undefined {
  switch (nic.type) {
    case "TUN/TAP":
      return nic.address ?? (input?.type === "TUN/TAP" ? input.tap : undefined);
    case "TUN/TAP+NAT":
      return input?.type === "TUN/TAP+NAT" ? input.network : undefined;
    case "BRIDGED_TAP":
      return nic.bridge;
    case "VLAN":
      return `${nic.parent}.${nic.vlan}`;
    case "user":
      return undefined;
  }
}

/** Text that XML 1.0 cannot hold, and text that would not be read back as it is. */
function unwritable(text: string): boolean {
  return /[\p{Cc}\ufffe\uffff]/u.test(text) || text !== text.trim() || /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
}

function element(
  name: string,
  text: string,
  attribute?: readonly [name: string, value: string | undefined],
): string {
  const [key, value] = attribute ?? [];
  const more = value === undefined ? "" : ` ${key}="${escapeXml(value)}"`;
  return `<${name}${more}>${escapeXml(text)}</${name}>`;
}

/**
 * @param input as it was written: paths and what was not given are taken from it
 * @param vm the same, resolved
 * @throws DefinitionError with all that a profile cannot say
 */
export function writeProfile(input: DefinitionInput, vm: VmDefinition, source: string): string {
  const problems: Problem[] = inexpressible(input, vm).map(([path, message]) => ({ path, message }));
  const path = (i: number) => {
    const disk = input.disks?.[i];
    return typeof disk === "string" ? disk : (disk?.path ?? "");
  };
  vm.disks.forEach((_, i) => {
    if (unwritable(path(i)))
      problems.push({ path: `disks[${i}].path`, message: "a profile cannot hold this path" });
  });
  if (unwritable(input.cdrom ?? ""))
    problems.push({ path: "cdrom", message: "a profile cannot hold this path" });
  if (problems.length > 0) {
    throw new DefinitionError(`${source}: not to be said in a 2007 profile`, problems);
  }
  const lines = [
    element("name", vm.name),
    element("type", vm.type, ["option", vm.option]),
    ...(vm.cpus === 1 ? [] : [element("cpu", String(vm.cpus))]),
    element("memory", String(vm.memory.bytes / MIB)),
  ];
  const size = vm.disks[0]?.size;
  lines.push(element("image", path(0), ["size", size === undefined ? undefined : String(size / MIB)]));
  if (vm.disks.length > 1) {
    const disks = vm.disks
      .slice(1)
      .map((disk, i) => `    ${element("virtual_disk", path(i + 1), ["id", disk.id])}`);
    lines.push(["<virtual_disks>", ...disks, "  </virtual_disks>"].join("\n"));
  }
  if (input.cdrom !== undefined) lines.push(element("cdrom", input.cdrom));
  vm.nics.forEach((nic, i) => {
    const type = element("type", nic.type, ["option", nicOption(nic, input.nics?.[i])]);
    lines.push(`<nic${i + 1}>\n    ${type}\n    ${element("mac", nic.mac)}\n  </nic${i + 1}>`);
  });
  const body = lines.map((line) => `  ${line}\n`).join("");
  return `<?xml version="1.0" encoding="UTF-8"?>\n<profile>\n${body}</profile>\n`;
}
