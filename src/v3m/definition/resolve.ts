// SPDX-License-Identifier: Apache-2.0
/** From what was written to what back ends get: defaults, absolute paths, and checks that a shape cannot say. */
import { randomUUID } from "node:crypto";
import { basename, resolve as resolvePath } from "node:path";
import { pciAddress } from "../../vmm/vfio.js";
import { didYouMean } from "../did-you-mean.js";
import { parseCpuList } from "./cpu-list.js";
import type { Path } from "./document.js";
import type { Problems } from "./problems.js";
import { type ImageLookup, namedImage } from "./resolve-image.js";
import { resolveNics } from "./resolve-nics.js";
import { resolvePerformance, spreadPerformance } from "./resolve-performance.js";
import type { DefinitionInput } from "./schema.js";
import {
  type NatRange,
  SHM_DEFAULTS,
  type VmBoot,
  type VmDefinition,
  type VmDisk,
  type VmMemory,
  type VmModule,
  type VmPerformance,
  type VmShm,
  type VmTopology,
} from "./types.js";
import { formatSize, parseBytes, parseMs, SIZE_HELP, TIME_HELP } from "./units.js";

export interface ResolveOptions {
  /** Where relative paths begin. */
  readonly directory: string;
  /** The types that are registered; absent: any is taken. */
  readonly types?: readonly string[];
  /** UUID of the VM where the definition has none. Default: a random one. */
  readonly uuid?: string;
  /** Address ranges that other VMs of this host have. Default: none. */
  readonly takenRanges?: readonly NatRange[];
  /** Where the images are that disks may name. Default: nowhere. */
  readonly images?: ImageLookup;
}

const DEFAULTS = {
  type: "VMM-HPC",
  memory: 128 * 2 ** 20,
  scrollback: 256 * 2 ** 10,
  stopTimeoutMs: 30_000,
} as const;

const PAGE = 4096;
const MIN_MEMORY = 2 ** 20;
const SECTOR = 512;
const SHM_MOST = 2 ** 30;

class Resolver {
  readonly #input: DefinitionInput;
  readonly #options: ResolveOptions;
  readonly #problems: Problems;

  constructor(input: DefinitionInput, options: ResolveOptions, problems: Problems) {
    this.#input = spreadPerformance(input, problems);
    this.#options = options;
    this.#problems = problems;
  }

  #path(path: string): string {
    return resolvePath(this.#options.directory, path);
  }

  #size(value: string | number, path: Path, unit: number, unitName: string): number {
    const bytes = parseBytes(value);
    if (bytes === undefined) this.#problems.add(path, `${value} is not a size`, SIZE_HELP);
    else if (bytes === 0 || bytes % unit !== 0) {
      this.#problems.add(path, `${value} is not a multiple of ${unitName}`, SIZE_HELP);
    }
    return bytes ?? 0;
  }

  #type(): string {
    const type = this.#input.type ?? DEFAULTS.type;
    const { types } = this.#options;
    if (types !== undefined && !types.includes(type)) {
      const meant = didYouMean(type, types);
      const hint = meant === undefined ? `one of ${types.join(", ")}` : `did you mean ${meant}?`;
      this.#problems.add(["type"], `${JSON.stringify(type)} is not the name of a back end`, hint);
    }
    return type;
  }

  #memory(performance: VmPerformance | undefined): VmMemory {
    const { memory } = this.#input;
    const given = typeof memory === "object" ? memory : memory === undefined ? {} : { size: memory };
    const path = typeof memory === "object" ? ["memory", "size"] : ["memory"];
    const nodes = performance?.numa?.reduce((sum, node) => sum + node.bytes, 0);
    const bytes =
      given.size === undefined ? (nodes ?? DEFAULTS.memory) : this.#size(given.size, path, PAGE, "4 KiB");
    if (nodes !== undefined && nodes !== bytes) {
      this.#problems.add(path, `the NUMA nodes have ${formatSize(nodes)} together`, "leave it away");
    }
    if (bytes > 0 && bytes < MIN_MEMORY) this.#problems.add(path, "less than 1 MiB", SIZE_HELP);
    return {
      bytes,
      backing: given.backing ?? "thp",
      prefault: given.prefault ?? false,
      ...(given.numaNode === undefined ? {} : { numaNode: given.numaNode }),
    };
  }

  #topology(cpus: number): VmTopology | undefined {
    const { topology } = this.#input;
    if (topology === undefined) return undefined;
    const threadsPerCore = topology.threadsPerCore ?? 1;
    const coresPerSocket =
      topology.coresPerSocket ?? Math.max(1, Math.floor(cpus / threadsPerCore / (topology.sockets ?? 1)));
    const sockets = topology.sockets ?? Math.max(1, Math.floor(cpus / threadsPerCore / coresPerSocket));
    const product = sockets * coresPerSocket * threadsPerCore;
    if (product !== cpus) {
      const sum = `${sockets} × ${coresPerSocket} × ${threadsPerCore} is ${product}`;
      this.#problems.add(["topology"], `${sum}, but cpus is ${cpus}`, "make the product cpus");
    }
    return { sockets, coresPerSocket, threadsPerCore };
  }

  #pin(): number[] {
    return parseCpuList(this.#input.pin ?? [], (range) =>
      this.#problems.add(["pin"], `${range} runs backwards`, "give CPUs such as 0-3"),
    );
  }

  #defaultBoot(): VmBoot {
    const { disks, cdrom } = this.#input;
    if ((disks?.length ?? 0) === 0 && cdrom === undefined) {
      this.#problems.add(
        ["boot"],
        "is missing, and there is no disk and no CD-ROM: nothing to boot",
        "give a kernel",
      );
    }
    return (disks?.length ?? 0) > 0 ? { from: "disk", cmdline: "" } : { from: "cdrom" };
  }

  #boot(): VmBoot {
    const { boot, disks, cdrom } = this.#input;
    if (boot === undefined) return this.#defaultBoot();
    if (boot === "cdrom") {
      if (cdrom === undefined) this.#problems.add(["boot"], "there is no CD-ROM to boot", "give cdrom");
      return { from: "cdrom" };
    }
    if (boot === "disk" || "disk" in boot) {
      if ((disks?.length ?? 0) === 0) this.#problems.add(["boot"], "there is no disk to boot", "give disks");
      return { from: "disk", cmdline: boot === "disk" ? "" : (boot.disk.cmdline ?? "") };
    }
    const kind = boot.kind ?? "auto";
    if (boot.loadAddress !== undefined && !kind.startsWith("flat")) {
      this.#problems.add(["boot", "loadAddress"], "only flat images have one", "give kind: flat16 or flat64");
    }
    return {
      from: "kernel",
      kernel: this.#path(boot.kernel),
      kind,
      ...(boot.initrd === undefined ? {} : { initrd: this.#path(boot.initrd) }),
      cmdline: boot.cmdline ?? "",
      ...(boot.loadAddress === undefined ? {} : { loadAddress: Number(boot.loadAddress) }),
      unpack: boot.unpack ?? true,
    };
  }

  #disk(input: NonNullable<DefinitionInput["disks"]>[number], index: number): VmDisk {
    const disk = typeof input === "string" ? { path: input } : input;
    const content = namedImage(disk, ["disks", index], this.#options.images, this.#problems);
    const readOnly = disk.readOnly ?? false;
    if (readOnly && disk.overlay !== undefined) {
      const hint = "leave readOnly away: below an overlay the disk is only read";
      this.#problems.add(
        ["disks", index, "overlay"],
        "an overlay takes writes, and the disk is read-only",
        hint,
      );
    }
    return {
      id: disk.id ?? `disk${index}`,
      path: this.#path(disk.path ?? ""),
      format: disk.format ?? "raw",
      ...(disk.size === undefined
        ? {}
        : { size: this.#size(disk.size, ["disks", index, "size"], SECTOR, "512 bytes") }),
      readOnly,
      ...(disk.overlay === undefined
        ? {}
        : { overlay: disk.overlay === "temporary" ? "temporary" : this.#path(disk.overlay) }),
      direct: disk.direct ?? false,
      ...(disk.serial === undefined ? {} : { serial: disk.serial }),
      ...content,
    };
  }

  #shm(input: NonNullable<DefinitionInput["shm"]>[number], index: number): VmShm {
    const peers = input.peers ?? SHM_DEFAULTS.peers;
    const ids: [number, Path][] = [[input.peer, ["shm", index, "peer"]]];
    input.visibleTo?.forEach((id, i) => {
      ids.push([id, ["shm", index, "visibleTo", i]]);
    });
    for (const [id, path] of ids) {
      if (id >= peers) {
        this.#problems.add(path, `${id} is not one of ${peers} peers`, `0 to ${peers - 1}, or more peers`);
      }
    }
    const bytes = (key: "size" | "common") => {
      const value = input[key];
      if (value === undefined || (key === "common" && parseBytes(value) === 0)) return SHM_DEFAULTS[key];
      const size = this.#size(value, ["shm", index, key], PAGE, "4 KiB");
      if (size > SHM_MOST) this.#problems.add(["shm", index, key], "more than 1 GiB", SIZE_HELP);
      return size;
    };
    return {
      channel: input.channel,
      peer: input.peer,
      peers,
      size: bytes("size"),
      common: bytes("common"),
      visibleTo: input.visibleTo ?? "all",
    };
  }

  #module(input: NonNullable<DefinitionInput["modules"]>[number]): VmModule {
    const module = typeof input === "string" ? { path: input } : input;
    return {
      name: module.name ?? basename(module.path).replace(/\.so$/, ""),
      path: this.#path(module.path),
      ...(module.argument === undefined ? {} : { argument: module.argument }),
      atStart: module.atStart ?? true,
    };
  }

  /** Ids within one list differ. */
  #distinct(list: string, key: string, values: readonly string[]): void {
    values.forEach((value, index) => {
      if (values.indexOf(value) !== index) {
        this.#problems.add([list, index, key], `${JSON.stringify(value)} stands twice`, "give another");
      }
    });
  }

  #stopTimeout(): number {
    const { stopTimeout } = this.#input;
    const ms = stopTimeout === undefined ? DEFAULTS.stopTimeoutMs : parseMs(stopTimeout);
    if (ms === undefined) this.#problems.add(["stopTimeout"], `${stopTimeout} is not a time`, TIME_HELP);
    return ms ?? 0;
  }

  resolve(): VmDefinition {
    const input = this.#input;
    const cpus = input.cpus ?? 1;
    const uuid = input.uuid?.toLowerCase() ?? this.#options.uuid ?? randomUUID();
    const topology = this.#topology(cpus);
    const pin = this.#pin();
    const performance = resolvePerformance(input.performance, cpus, pin, this.#problems);
    const disks = (input.disks ?? []).map((disk, index) => this.#disk(disk, index));
    this.#distinct(
      "disks",
      "id",
      disks.map((disk) => disk.id),
    );
    const modules = (input.modules ?? []).map((module) => this.#module(module));
    this.#distinct(
      "modules",
      "name",
      modules.map((module) => module.name),
    );
    const shm = (input.shm ?? []).map((place, index) => this.#shm(place, index));
    this.#distinct(
      "shm",
      "channel",
      shm.map(({ channel }) => channel),
    );
    const vfio = (input.vfio ?? []).map(({ device }) => ({ device: pciAddress(device, "vfio") }));
    this.#distinct(
      "vfio",
      "device",
      vfio.map(({ device }) => device),
    );
    if (vfio.length > 0 && input.balloon === true) {
      this.#problems.add(["vfio"], "not together with a balloon", "leave out one of them");
    }
    const context = { uuid, takenRanges: this.#options.takenRanges ?? [], problems: this.#problems };
    const scrollback = input.console?.scrollback;
    return {
      version: 1,
      name: input.name,
      type: this.#type(),
      ...(input.option === undefined ? {} : { option: input.option }),
      ...(input.description === undefined ? {} : { description: input.description }),
      uuid,
      cpus,
      ...(topology === undefined ? {} : { topology }),
      pin,
      memory: this.#memory(performance),
      ...(performance === undefined ? {} : { performance }),
      boot: this.#boot(),
      disks,
      ...(input.cdrom === undefined ? {} : { cdrom: this.#path(input.cdrom) }),
      nics: resolveNics(input.nics ?? [], context),
      pmem: (input.pmem ?? []).map((pmem) =>
        typeof pmem === "string"
          ? { path: this.#path(pmem), readOnly: false }
          : { path: this.#path(pmem.path), readOnly: pmem.readOnly ?? false },
      ),
      shm,
      vfio,
      console: {
        scrollback:
          scrollback === undefined
            ? DEFAULTS.scrollback
            : this.#size(scrollback, ["console", "scrollback"], PAGE, "4 KiB"),
        ...(input.console?.log === undefined ? {} : { log: this.#path(input.console.log) }),
      },
      rng: input.rng ?? true,
      balloon: input.balloon ?? false,
      ...(input.vsock === undefined ? {} : { vsock: input.vsock }),
      ...(input.generationId === undefined ? {} : { generationId: input.generationId.toLowerCase() }),
      onReset: input.onReset ?? "reboot",
      stopTimeoutMs: this.#stopTimeout(),
      ...(input.kvm === undefined ? {} : { kvm: this.#path(input.kvm) }),
      jail: { without: [...new Set(input.jail?.without ?? [])] },
      modules,
      labels: { ...input.labels },
    };
  }
}

function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(freeze);
    Object.freeze(value);
  }
  return value;
}

/** @returns what back ends get; it means nothing where problems were added */
export function resolveDefinition(
  input: DefinitionInput,
  options: ResolveOptions,
  problems: Problems,
): VmDefinition {
  return freeze(new Resolver(input, options, problems).resolve());
}
