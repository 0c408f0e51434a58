// SPDX-License-Identifier: Apache-2.0
/** `v2m image`: disk images, empty or with a system installed in them. */
import { resolve } from "node:path";
import type { VmDefinition } from "../v3m/definition/types.js";
import { parseBytes, SIZE_HELP } from "../v3m/definition/units.js";
import type { V3m } from "../v3m/v3m.js";
import type { ImageSource } from "../vmm/backend.js";
import { Exit } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { ProgressBar, say, sayJson } from "./output.js";
import { UsageError } from "./values.js";

export interface ImageFlags extends FrontFlags {
  readonly size: string;
  readonly format: string;
  readonly type?: string;
  readonly fromCdrom?: string;
  readonly fromPackages?: string;
  readonly machine?: string;
}

function format(text: string): "raw" | "qcow2" {
  if (text !== "raw" && text !== "qcow2") throw new UsageError(`--format ${text}: unknown`, "raw or qcow2");
  return text;
}

async function source(
  v3m: V3m,
  file: string,
  flags: ImageFlags,
): Promise<[string, ImageSource<VmDefinition>]> {
  const size = parseBytes(flags.size);
  if (size === undefined || size === 0) throw new UsageError(`--size ${flags.size}: not a size`, SIZE_HELP);
  const common = { to: resolve(file), size, format: format(flags.format) };
  const from = flags.fromCdrom ?? flags.fromPackages;
  if (from === undefined) return [flags.type ?? "VMM-HPC", { kind: "empty", ...common }];
  if (flags.machine === undefined) {
    throw new UsageError(
      "an installation runs in a machine, and none is given",
      "--machine FILE: the definition of one",
    );
  }
  const machine = await v3m.validate(flags.machine);
  const kind = flags.fromCdrom === undefined ? "packages" : "cdrom";
  return [
    flags.type ?? machine.type,
    { kind, from: kind === "cdrom" ? resolve(from) : from, machine, ...common },
  ];
}

export async function image(file: string, flags: ImageFlags): Promise<number> {
  const v3m = openFront(flags);
  const [type, wanted] = await source(v3m, file, flags);
  using interrupt = new Interrupt();
  using bar = new ProgressBar(flags.json !== true);
  await v3m.createImage(type, wanted, {
    signal: interrupt.signal,
    onProgress: (progress) => bar.show(progress),
  });
  bar.clear();
  if (flags.json === true) sayJson({ image: wanted.to, size: wanted.size, format: wanted.format });
  else say(`${wanted.to}: made`);
  return Exit.OK;
}
