// SPDX-License-Identifier: Apache-2.0
/** Does what the command lines of 2007 ask for, with the verbs of today. */
import { isDeepStrictEqual } from "node:util";
import type { VmDefinition } from "../v3m/definition/types.js";
import { DefinitionError } from "../v3m/errors.js";
import type { V3m } from "../v3m/v3m.js";
import type { OperationOptions, VmState } from "../vmm/backend.js";
import { Exit } from "./exit-codes.js";
import { Interrupt, openFront } from "./front.js";
import { ProgressBar, say, sayJson } from "./output.js";
import type { ProfileCommand } from "./profile-options.js";

/** The words of 2007 for the states of today. */
export const STATUS_WORDS: Readonly<Record<VmState, string>> = {
  starting: "RUNNING",
  running: "RUNNING",
  stopping: "RUNNING",
  migrating: "RUNNING",
  paused: "PAUSE",
  defined: "SHUTDOWN",
  stopped: "SHUTDOWN",
  crashed: "CRASH",
};

/** A VM that is not defined. */
const UNKNOWN = "UNKNOWN";

/** What OSCAR put on the nodes of a cluster. */
const DEFAULT_SET = "compute";

/** Make the profile the definition of its VM, where it is not already. A VM that runs is left as it is. */
async function ensureDefined(v3m: V3m, profile: string, definition: VmDefinition): Promise<void> {
  const { name } = definition;
  if (!v3m.names().includes(name)) {
    await v3m.define(profile);
    return;
  }
  const { uuid } = v3m.definition(name);
  const { readDefinition, resolveSource } = await import("../v3m/definition/load.js");
  const wanted = resolveSource(await readDefinition(profile), { uuid, images: await v3m.imageLookup() });
  if (!isDeepStrictEqual(wanted, v3m.definition(name))) await v3m.define(profile, { replace: true });
}

/** @param set of packages; without, the system comes from the profile's CD-ROM */
async function install(
  v3m: V3m,
  profile: string,
  machine: VmDefinition,
  options: OperationOptions,
  set?: string,
): Promise<string> {
  const [image] = machine.disks;
  const missing = (path: string, message: string) => new DefinitionError(profile, [{ path, message }]);
  if (image === undefined) throw missing("image", "is missing");
  const { path: to, size, format } = image;
  if (size === undefined) throw missing("image", "attribute size is missing, and the image is to be made");
  const { type, cdrom } = machine;
  if (set !== undefined) {
    await v3m.createImage(type, { kind: "packages", from: set, to, size, format }, options);
  } else {
    if (cdrom === undefined) throw missing("cdrom", "is missing, and the image is to be made from it");
    await v3m.createImage(type, { kind: "cdrom", from: cdrom, to, size, format, machine }, options);
  }
  return `${to}: made`;
}

async function statusWord(v3m: V3m, name: string): Promise<string> {
  return v3m.names().includes(name) ? STATUS_WORDS[(await v3m.status(name)).state] : UNKNOWN;
}

async function act(
  v3m: V3m,
  command: ProfileCommand,
  vm: VmDefinition,
  options: OperationOptions,
): Promise<string> {
  const { profile, action, node = "" } = command;
  const { name } = vm;
  switch (action) {
    case "validate":
      return `${profile}: valid, VM ${name} of type ${vm.type}`;
    case "status":
      return await statusWord(v3m, name);
    case "boot":
      await ensureDefined(v3m, profile, vm);
      await v3m.start(name, options);
      return `${name}: running`;
    case "pause":
      await v3m.pause(name, options);
      return `${name}: paused`;
    case "unpause":
      await v3m.resume(name, options);
      return `${name}: running`;
    case "migrate":
      await v3m.migrate(name, node, options);
      return `${name}: migrated to ${node}`;
    case "image-from-cdrom":
      return await install(v3m, profile, vm, options);
    case "image-from-packages":
      return await install(v3m, profile, vm, options, command.set ?? DEFAULT_SET);
  }
}

export async function runProfileCommand(command: ProfileCommand): Promise<number> {
  const v3m = openFront(command);
  const vm = await v3m.validate(command.profile);
  using interrupt = new Interrupt();
  using bar = new ProgressBar(!command.json);
  const outcome = await act(v3m, command, vm, {
    signal: interrupt.signal,
    onProgress: (progress) => bar.show(progress),
  });
  bar.clear();
  if (command.json) sayJson({ name: vm.name, action: command.action, outcome });
  else say(outcome);
  return Exit.OK;
}
