// SPDX-License-Identifier: Apache-2.0
/** What the checks of one back end share: directories, images, a definition with all that it can do, one guest. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guestInitramfs } from "../../../harness/initramfs.js";
import { ensureKernel, type KernelFlavour } from "../../../harness/kernels.js";
import { packageRoot } from "../../../src/package-root.js";
import type { NatNic, VmDefinition, VmDisk, VmNic, VmVfio } from "../../../src/v3m/definition/types.js";
import { NotFoundError } from "../../../src/v3m/errors.js";
import type { V3mBackend, V3mBackendFactory, V3mBackendHost } from "../../../src/v3m/registry.js";
import type { CapabilityMatrix, Feature } from "../../../src/vmm/backend.js";
import { type Capability, missing } from "../capabilities.js";
import { bind, CARDS } from "../vfio.js";
import { NET } from "./network.js";
import { ConsoleShell } from "./shell.js";

export const MIB = 1 << 20;
export const PATTERN = "conformance: this was on the disk before\n";
/** What the shared guest needs, and what it needs where it is to be lean. */
const MODULES = [
  ...["virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_pmem", "nd_pmem"],
  ...["sr_mod", "ahci", "isofs", "button", "evdev", "vmw_vsock_virtio_transport"],
];
const LEAN_MODULES = ["virtio_net", "vmw_vsock_virtio_transport"];

/** The module of examples/, as a definition names it. */
const SHM = { channel: "conformance", peer: 0, peers: 2, size: MIB, common: 0, visibleTo: "all" } as const;
const TALLY = {
  name: "tally",
  path: join(packageRoot(), "native/build/release/tally.so"),
  argument: "port=0x520",
  atStart: true,
};

/** Definitions that nothing is asked of. */
export const PLAIN: VmDefinition = {
  version: 1,
  name: "plain",
  type: "",
  uuid: "6b9e0c5e-0000-4000-8000-000000000001",
  cpus: 1,
  pin: [],
  memory: { bytes: 256 * MIB, backing: "thp", prefault: false },
  boot: { from: "kernel", kernel: "/nowhere", kind: "auto", cmdline: "", unpack: true },
  disks: [],
  nics: [],
  pmem: [],
  shm: [],
  vfio: [],
  console: { scrollback: MIB },
  rng: false,
  balloon: false,
  onReset: "reboot",
  stopTimeoutMs: 60_000,
  jail: { without: [] },
  modules: [],
  labels: {},
};

/** A disk, read and written unless told otherwise. */
export function disk(id: string, path: string, more: Partial<VmDisk> = {}): VmDisk {
  return { id, path, format: "raw", readOnly: false, direct: false, serial: id, ...more };
}

export const NAT_NIC: NatNic = {
  type: "TUN/TAP+NAT",
  id: "nic2",
  mac: "52:54:00:c0:00:02",
  tap: "v3mconf2",
  vhost: false,
  range: { network: "10.77.0.0", prefix: 30, host: "10.77.0.1", guest: "10.77.0.2" },
};

/** A running machine and the shell in it. */
export interface Guest {
  readonly definition: VmDefinition;
  readonly shell: ConsoleShell;
}

export class World {
  readonly backend: V3mBackend;
  readonly directory: string;
  readonly matrix: CapabilityMatrix;
  readonly #definitions: Map<string, VmDefinition>;
  /** Whether the guest gets NICs that lead to the host's network. */
  network = true;
  /** Whether the guest is to have only what no other place can test: for emulation within emulation. */
  lean = false;
  #guest: Promise<Guest> | undefined;

  private constructor(
    backend: V3mBackend,
    directory: string,
    matrix: CapabilityMatrix,
    definitions: Map<string, VmDefinition>,
  ) {
    this.backend = backend;
    this.directory = directory;
    this.matrix = matrix;
    this.#definitions = definitions;
  }

  /** @param wrap what to test instead of the back end itself */
  static async create(
    factory: V3mBackendFactory,
    wrap: (backend: V3mBackend) => V3mBackend = (backend) => backend,
  ): Promise<World> {
    const directory = mkdtempSync(join(tmpdir(), "v3m-conf-"));
    const definitions = new Map<string, VmDefinition>();
    for (const name of ["state", "run"]) mkdirSync(join(directory, name));
    const host: V3mBackendHost = {
      definition: async (name) => {
        const found = definitions.get(name);
        if (found === undefined) throw new NotFoundError(name);
        return found;
      },
      stateDirectory: (name) => join(directory, "state", name),
      runtimeDirectory: (name) => join(directory, "run", name),
    };
    const backend = wrap(await factory.create(host));
    return new World(backend, directory, (await backend.probe()).capabilities, definitions);
  }

  /** The back end's own directory of a VM. */
  stateDirectory(name: string): string {
    return join(this.directory, "state", name);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Whether the matrix says so, and this place has what it takes. */
  can(feature: Feature, ...needs: Capability[]): boolean {
    return this.matrix[feature].supported !== "no" && needs.every((need) => missing(need) === undefined);
  }

  async define(definition: VmDefinition): Promise<void> {
    this.#definitions.set(definition.name, definition);
    await this.backend.define(definition);
  }

  async undefine(name: string): Promise<void> {
    await this.backend.undefine(name);
    this.#definitions.delete(name);
  }

  /** A kernel and an initramfs with a shell; the cloud kernel is up sooner, and has no driver for CD-ROMs. */
  async linux(
    modules: readonly string[] = [],
    flavour: KernelFlavour = "cloud",
  ): Promise<VmDefinition["boot"] & { from: "kernel" }> {
    const kernel = await ensureKernel(flavour);
    return {
      from: "kernel",
      kernel: kernel.bzImage,
      initrd: await guestInitramfs({ modules, kernel }),
      kind: "auto",
      cmdline: "console=ttyS0 quiet",
      unpack: true,
    };
  }

  /** The guest that most checks share, booted by the first. */
  guest(): Promise<Guest> {
    this.#guest ??= this.#boot();
    return this.#guest;
  }

  async #boot(): Promise<Guest> {
    const definition = await (this.lean ? this.#leanDefinition() : this.#fullDefinition());
    await this.define(definition);
    return await this.started(definition);
  }

  /** Start what is defined, up to its shell. */
  async started(definition: VmDefinition): Promise<Guest> {
    await this.backend.start(definition.name);
    const shell = new ConsoleShell(await this.backend.console(definition.name));
    await shell.begin();
    return { definition, shell };
  }

  /** The shared guest is no more. */
  async forget(): Promise<void> {
    const guest = await this.#guest?.catch(() => undefined);
    guest?.shell.stream.destroy();
    this.#guest = undefined;
  }

  async dispose(): Promise<void> {
    await this.forget();
    for (const name of [...this.#definitions.keys()]) {
      await this.backend.stop(name, { force: true }).catch(() => {});
      await this.undefine(name).catch(() => {});
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** What this place has and the others lack. */
  async #leanDefinition(): Promise<VmDefinition> {
    return {
      ...PLAIN,
      name: "lean",
      type: this.backend.type,
      boot: await this.linux(LEAN_MODULES),
      nics: this.#nics().filter(({ type }) => type === "VLAN"),
      ...this.#hugePages(),
      ...this.#vsock(),
    };
  }

  /** A card of the host's, ready to be handed on. */
  async card(): Promise<VmVfio> {
    await bind(CARDS.virtio.address, "vfio-pci");
    return { device: CARDS.virtio.address };
  }

  #hugePages(): Partial<VmDefinition> {
    if (!this.can("hugepages", "hugepages")) return {};
    return { memory: { ...PLAIN.memory, backing: "huge-2M" } };
  }

  #performance(): Partial<VmDefinition> {
    const numa = [
      { cpus: [0], bytes: 128 * MIB, distances: [10, 25] },
      { cpus: [1], bytes: 128 * MIB, distances: [25, 10] },
    ];
    const performance = {
      ...(this.can("io-pin") ? { ioPin: [0] } : {}),
      ...(this.can("realtime", "realtime") ? { realtime: { io: 2 } } : {}),
      ...(this.can("numa") ? { numa } : {}),
    };
    return Object.keys(performance).length === 0 ? {} : { performance };
  }

  #vsock(): Partial<VmDefinition> {
    return this.can("vsock", "vhost-vsock") ? { vsock: 4711 } : {};
  }

  /** With everything that the back end says yes to and this place has. */
  async #fullDefinition(): Promise<VmDefinition> {
    return {
      ...PLAIN,
      name: "full",
      type: this.backend.type,
      cpus: 2,
      boot: await this.linux(MODULES, this.can("cdrom") ? "generic" : "cloud"),
      disks: this.#disks(),
      nics: this.#nics(),
      rng: this.can("rng"),
      balloon: this.can("balloon"),
      pmem: this.can("pmem") ? [{ path: this.#blank("pmem", 4 * MIB), readOnly: false }] : [],
      shm: this.can("shm") ? [SHM] : [],
      ...this.#hugePages(),
      ...this.#vsock(),
      ...(this.can("topology") ? { topology: { sockets: 1, coresPerSocket: 2, threadsPerCore: 1 } } : {}),
      ...(this.can("pin") ? { pin: [0] } : {}),
      ...this.#performance(),
      ...(this.can("cdrom") ? { cdrom: this.#iso() } : {}),
      ...(this.can("modules") ? { modules: [TALLY] } : {}),
      ...(this.can("generation-id") ? { generationId: "0123456789abcdef0123456789abcdef" } : {}),
    };
  }

  #disks(): VmDisk[] {
    if (!this.can("disks")) return [];
    const base = this.#pattern("base.img");
    return [
      disk("raw", this.path("raw.img"), { size: 16 * MIB }),
      disk("readonly", this.#pattern("readonly.img"), { readOnly: true }),
      ...(this.can("disk:qcow2")
        ? [disk("qcow", this.path("disk.qcow2"), { size: 16 * MIB, format: "qcow2" })]
        : []),
      ...(this.can("disk:overlay")
        ? [
            disk("over", base, { overlay: this.path("overlay") }),
            disk("brief", base, { overlay: "temporary" }),
          ]
        : []),
    ];
  }

  #nics(): VmNic[] {
    const vhost = this.can("nic:vhost", "vhost-net");
    const tap = (index: number) => ({
      id: `nic${index}`,
      mac: `52:54:00:c0:00:0${index}`,
      tap: `v3mconf${index}`,
      vhost,
    });
    const { id, mac } = tap(5);
    const all: (VmNic & { needs: readonly Capability[] })[] = [
      { type: "TUN/TAP", ...tap(1), address: "192.0.2.1/24", needs: ["private-net"] },
      { ...NAT_NIC, vhost, needs: ["private-net"] },
      { type: "BRIDGED_TAP", ...tap(3), bridge: NET.bridge, needs: ["private-net"] },
      { type: "VLAN", ...tap(4), parent: NET.parent, vlan: NET.vlan, needs: ["8021q"] },
      { type: "user", id, mac, forward: [USER_FORWARD], needs: [] },
    ];
    if (!this.network) return [];
    return all.filter((nic) => this.can(`nic:${nic.type}`, ...nic.needs)).map(({ needs: _, ...nic }) => nic);
  }

  #blank(name: string, bytes: number): string {
    writeFileSync(this.path(name), "");
    truncateSync(this.path(name), bytes);
    return this.path(name);
  }

  #pattern(name: string): string {
    const path = this.#blank(name, 4 * MIB);
    writeFileSync(path, PATTERN, { flag: "r+" });
    return path;
  }

  #iso(): string {
    const content = this.path("iso");
    mkdirSync(content);
    writeFileSync(join(content, "hello"), PATTERN);
    execFileSync("xorriso", ["-as", "mkisofs", "-quiet", "-o", this.path("cd.iso"), content], {
      stdio: "ignore",
    });
    return this.path("cd.iso");
  }

  /** The process that runs a machine: descriptors, threads, mappings of it. */
  async processFile(name: string, file: string): Promise<string> {
    const { pid } = await this.backend.status(name);
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  }
}

export const USER_FORWARD = {
  protocol: "tcp",
  address: "127.0.0.1",
  host: 47_110,
  guest: 7,
} as const;
