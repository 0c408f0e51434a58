// SPDX-License-Identifier: Apache-2.0
/** `v2m image create`: in the store, or in a file of the user's. */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { VmDefinition } from "../v3m/definition/types.js";
import type { V3m } from "../v3m/v3m.js";
import type { ImageSource } from "../vmm/backend.js";
import { Exit } from "./exit-codes.js";
import { Interrupt, openFront } from "./front.js";
import { type ImageFlags, made, nameOrFile, sizeOption } from "./image.js";
import { ProgressBar, say, sayJson } from "./output.js";
import { UsageError } from "./values.js";

const MIB = 1 << 20;

const wholeMib = (size: string) => Math.ceil(sizeOption(size) / MIB) * MIB;

export interface CreateFlags extends ImageFlags {
  readonly size?: string;
  readonly format: "raw" | "qcow2";
  readonly type?: string;
  readonly fromCdrom?: string;
  readonly withOscar?: string;
  readonly machine?: string;
  readonly output?: string;
}

/** What a back end is asked for, and which. */
async function source(
  v3m: V3m,
  to: string,
  flags: CreateFlags,
): Promise<[string, ImageSource<VmDefinition>]> {
  const { format, fromCdrom, withOscar, type = "VMM-HPC" } = flags;
  if (withOscar !== undefined) {
    const size = flags.size === undefined ? {} : { size: wholeMib(flags.size) };
    return [type, { kind: "packages", from: withOscar, to, format, ...size }];
  }
  if (flags.size === undefined) throw new UsageError("--size is missing", "--size 10G");
  const common = { to, size: sizeOption(flags.size), format };
  if (fromCdrom === undefined) return [type, { kind: "empty", ...common }];
  if (flags.machine === undefined) {
    throw new UsageError(
      "an installation runs in a machine, and none is given",
      "--machine FILE: the definition of one",
    );
  }
  const machine = await v3m.validate(flags.machine);
  return [flags.type ?? machine.type, { kind: "cdrom", from: resolve(fromCdrom), machine, ...common }];
}

async function createFile(flags: CreateFlags): Promise<number> {
  const v3m = openFront(flags);
  const [type, wanted] = await source(v3m, resolve(flags.output ?? ""), flags);
  using interrupt = new Interrupt();
  using bar = new ProgressBar(flags.json !== true);
  await v3m.createImage(type, wanted, {
    signal: interrupt.signal,
    onProgress: (progress) => bar.show(progress),
  });
  bar.clear();
  if (flags.json === true)
    sayJson({ image: wanted.to, size: (await stat(wanted.to)).size, format: wanted.format });
  else say(`${wanted.to}: made`);
  return Exit.OK;
}

/** A sealed image with a set of packages. */
async function createFromPackages(name: string, word: string, flags: CreateFlags): Promise<number> {
  const { loadPackageSet } = await import("../v3m/packages/load.js");
  const { installPackages } = await import("../v3m/packages/install.js");
  const set = await loadPackageSet(word);
  const size = flags.size === undefined ? {} : { size: wholeMib(flags.size) };
  return await made(flags, (images, options) =>
    images.adopt(
      name,
      (path, work) => installPackages(set, path, { ...options, ...size, work: work.directory }),
      options,
    ),
  );
}

/** A sealed image with the system that a CD-ROM installs. */
async function createFromCdrom(name: string, iso: string, flags: CreateFlags): Promise<number> {
  const v3m = openFront(flags);
  const [type, wanted] = await source(v3m, "", flags);
  const { digestOf } = await import("../images/content.js");
  const { provenance } = await import("../images/provenance.js");
  return await made(flags, (images, options) =>
    images.adopt(
      name,
      async (path) => {
        await v3m.createImage(type, { ...wanted, to: path }, options);
        const input = { name: resolve(iso), ...(await digestOf(iso, `digesting ${iso}`, options)) };
        return provenance(resolve(iso), { inputs: [input] });
      },
      options,
    ),
  );
}

export async function create(name: string | undefined, flags: CreateFlags): Promise<number> {
  nameOrFile(name, flags.output);
  if (flags.fromCdrom !== undefined && flags.withOscar !== undefined) {
    throw new UsageError("--from-cdrom and --with-oscar: one of these at a time");
  }
  if (name === undefined) return await createFile(flags);
  const system = flags.withOscar ?? flags.fromCdrom;
  if (system !== undefined && flags.format !== "raw") {
    throw new UsageError("images with a system are raw", "v2m image clone --as qcow2, or --output FILE");
  }
  if (flags.withOscar !== undefined) return await createFromPackages(name, flags.withOscar, flags);
  if (flags.fromCdrom !== undefined) return await createFromCdrom(name, flags.fromCdrom, flags);
  if (flags.size === undefined) throw new UsageError("--size is missing", "--size 10G");
  const size = sizeOption(flags.size);
  return await made(flags, (images, options) => images.create(name, size, flags.format, options));
}
