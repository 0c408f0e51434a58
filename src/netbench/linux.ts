// SPDX-License-Identifier: Apache-2.0
/**
 * Pairs of Linux guests with a network card or device for each path, so that all paths are measured between the same
 * two guests: Debian's cloud kernel, busybox and the measuring program, one vCPU each. Verbs and functions of the
 * host's need the generic kernel.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel, type GuestKernel } from "../../harness/kernels.js";
import { V3mError } from "../errors.js";
import { ShellGuest } from "../measure/shell-guest.js";
import { Channel } from "../vmm/channel.js";
import { Machine } from "../vmm/machine.js";
import type { Contender } from "./contender.js";
import { type Counters, countersOf, outcomeOf } from "./counters.js";
import {
  address,
  CHANNEL,
  freePort,
  isNetworkPath,
  joinBridge,
  makeBridge,
  type NetworkPath,
  netOf,
  USER_HOST,
} from "./links.js";
import { type PathName, TESTS } from "./names.js";
import type { Request } from "./plan.js";
import { limitSeconds, parseSample, program, requestWords } from "./program.js";
import { RDMA_MODULES, RDMA_PATH, rdmaFiles } from "./rdma-files.js";
import { type FunctionPair, functionModules } from "./vfio.js";

const MEMORY_MIB = 128;
/** With Debian's generic kernel, and perftest's libraries in the initramfs. */
const GENERIC_MEMORY_MIB = 256;
/** VFIO brings interrupts of a channel by MSI-X; where it is not to be had, UIO does by INTx. */
const MODULES = ["virtio_net", "uio_pci_generic", "vfio_iommu_type1", "vfio_pci"];
/** There is no interrupt remapping: the guest's own root is asked whether it trusts the function. */
const TRUST = "echo Y >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
const PORT = 5001;
/** Until two cards have found a carrier. */
const REACH_SECONDS = 60;
/** By which the follower's program speaks to the shell of its guest. */
const PIPE = "/tmp/said";

export interface LinuxFiles {
  readonly kernel: GuestKernel;
  readonly initrd: string;
  readonly memoryMiB: number;
  /** For `vfio`. */
  readonly functions: FunctionPair | undefined;
}

/** What is prepared before, for these paths: fetched and built where there may be no network later. */
export async function linuxFiles(
  paths: readonly PathName[],
  handedOn: FunctionPair | undefined,
): Promise<LinuxFiles> {
  const verbs = paths.includes("rdma");
  const functions = paths.includes("vfio") ? handedOn : undefined;
  const generic = verbs || functions !== undefined;
  const kernel = await ensureKernel(generic ? "generic" : "cloud");
  const file = { type: "file", path: "bin/netbench", data: readFileSync(program()), mode: 0o755 } as const;
  const extraFiles = [file, ...(verbs ? await rdmaFiles() : [])];
  // The functions' last: their interfaces come after those of the other links.
  const drivers = functions === undefined ? [] : await functionModules(kernel, functions);
  const modules = [...MODULES, ...(verbs ? RDMA_MODULES : []), ...drivers];
  const initrd = await guestInitramfs({ extraFiles, modules, kernel });
  return { kernel, initrd, memoryMiB: generic ? GENERIC_MEMORY_MIB : MEMORY_MIB, functions };
}

interface Guest {
  readonly machine: Machine;
  readonly shell: ShellGuest;
}

/** Two guests; 0 leads, 1 follows. */
export class LinuxPair {
  readonly machines: readonly Machine[];
  /** The leader's and the follower's. */
  readonly shells: readonly [ShellGuest, ShellGuest];
  readonly #guests: readonly [Guest, Guest];
  readonly #channel: Channel;
  /** The host's port that leads to the follower. */
  readonly #userPort: number;
  #session = 0;

  private constructor(guests: readonly [Guest, Guest], channel: Channel, userPort: number) {
    this.#guests = guests;
    this.#channel = channel;
    this.#userPort = userPort;
    this.machines = guests.map(({ machine }) => machine);
    this.shells = [guests[0].shell, guests[1].shell];
  }

  /** Booted and connected. `paths` are those that can be had here. */
  static async boot(files: LinuxFiles, paths: readonly PathName[], pair: number): Promise<LinuxPair> {
    // Two functions are one pair's.
    const links = paths.filter(isNetworkPath).filter((path) => path !== "vfio" || pair === 0);
    const functions = links.includes("vfio") ? files.functions : undefined;
    const channel = Channel.create(CHANNEL);
    const userPort = links.includes("user") ? await freePort() : 0;
    const cores = cpus().length;
    const guests: Guest[] = [];
    try {
      for (const path of links) makeBridge(path, pair);
      for (const peer of [0, 1]) {
        const forwards = { tcp: [{ host: userPort, guest: PORT }] };
        const machine = await Machine.create({
          kernel: files.kernel.bzImage,
          initrd: files.initrd,
          cmdline: "console=ttyS0 quiet",
          memory: files.memoryMiB << 20,
          nets: links.flatMap((path) => netOf(path, pair, peer, forwards)),
          shm: [{ channel, peer }],
          ...(functions === undefined ? {} : { vfio: [{ device: functions[peer] ?? "" }] }),
          ...(cores < 2 ? {} : { pin: [(2 * pair + peer) % cores] }),
        });
        guests.push({ machine, shell: new ShellGuest(machine.console, machine.console) });
        for (const path of links) joinBridge(path, pair, peer);
        machine.start();
      }
      const [leader, follower] = guests as [Guest, Guest];
      for (const [peer, { shell }] of [leader, follower].entries()) await connect(shell, links, pair, peer);
      if (functions !== undefined) await reach(leader.shell, address("vfio", pair, 1), functions);
      return new LinuxPair([leader, follower], channel, userPort);
    } catch (error) {
      for (const { machine } of guests) await machine.dispose();
      channel.close();
      throw error;
    }
  }

  async dispose(): Promise<void> {
    for (const { machine } of this.#guests) await machine.dispose();
    this.#channel.close();
  }

  commands(path: PathName, pair: number, request: Request): { leader: string; follower: string } {
    const limit = `limit=${limitSeconds(request)}`;
    const words = requestWords(request).join(" ");
    if (path === "shm") {
      const both = `via=shm session=${this.#session} wait=${request.wait}`;
      return {
        leader: `netbench ${both} role=lead partner=1 ${words}`,
        follower: `netbench ${both} role=follow partner=0 ${limit}`,
      };
    }
    const to =
      path === "user"
        ? `address=${USER_HOST} port=${this.#userPort}`
        : `address=${address(path as NetworkPath, pair, 1)} port=${PORT}`;
    return {
      leader: `netbench via=tcp role=lead ${to} ${words}`,
      follower: `netbench via=tcp role=follow port=${PORT} ${limit}`,
    };
  }

  /** The follower, until it can be spoken to. */
  async follow(path: PathName, pair: number, request: Request): Promise<void> {
    this.#session++;
    const { follower } = this.commands(path, pair, request);
    // By a pipe: nothing is looked at again and again while it runs.
    await this.#guests[1].shell.run(
      `{ ${follower} >${PIPE}; echo "over $?" >${PIPE}; } & read -r said <${PIPE}; [ "$said" = ready ]`,
    );
  }

  /** @returns what the leader printed */
  async lead(path: PathName, pair: number, request: Request): Promise<string> {
    const [leader, follower] = this.#guests;
    const text = await leader.shell.run(this.commands(path, pair, request).leader);
    await follower.shell.run(`read -r said <${PIPE}; [ "$said" = "over 0" ]`);
    return text;
  }
}

/** Wait for the other guest to answer through the functions. @throws V3mError E_GUEST */
async function reach(shell: ShellGuest, other: string, functions: FunctionPair): Promise<void> {
  await shell.run(`ping -c 1 -w ${REACH_SECONDS} ${other}`).catch((cause: unknown) => {
    throw new V3mError("E_GUEST", `guests do not reach each other through ${functions.join(" and ")}`, {
      hint: "--vfio takes two functions on one network, of which the guests' kernel has drivers",
      cause,
    });
  });
}

async function connect(
  shell: ShellGuest,
  links: readonly NetworkPath[],
  pair: number,
  peer: number,
): Promise<void> {
  await shell.ready();
  await shell.run(TRUST);
  for (const [index, path] of links.entries()) {
    const own = address(path, pair, peer);
    await shell.run(`ip addr add ${own}/24 dev eth${index}; ip link set eth${index} up`);
  }
  if (links.includes("rdma")) {
    await shell.run(`PATH=${RDMA_PATH} rdma link add rxe0 type rxe netdev eth${links.indexOf("rdma")}`);
  }
  // Held open at both ends, so that neither side of it waits for the other.
  await shell.run(`mkfifo ${PIPE}; sleep 1000000 <>${PIPE} >/dev/null 2>&1 &`);
}

/** Counters of all guests of these pairs. */
export function countersOfPairs(pairs: readonly LinuxPair[]): Counters {
  return countersOf(pairs.flatMap(({ machines }) => machines.map((machine) => machine.kvmStats())));
}

/** A path between the given pairs. */
export function linuxPath(path: PathName, pairs: readonly LinuxPair[]): Contender {
  return {
    id: path,
    kind: "path",
    tests: TESTS,
    commands(request) {
      const { leader, follower } = pairs[0]?.commands(path, 0, request) ?? { leader: "", follower: "" };
      return [follower, leader];
    },
    refusal: (request) =>
      path === "vfio" && request.pairs > 1 ? "two functions make one pair of guests" : undefined,
    async run(request) {
      const used = pairs.slice(0, request.pairs);
      const counters = () => countersOfPairs(used);
      const before = counters();
      await Promise.all(used.map((pair, i) => pair.follow(path, i, request)));
      const texts = await Promise.all(used.map((pair, i) => pair.lead(path, i, request)));
      return outcomeOf(texts.map(parseSample), before, counters());
    },
  };
}
