// SPDX-License-Identifier: Apache-2.0
/**
 * Pairs of Linux guests with a network card or device for each path, so that all paths are measured between the same
 * two guests: Debian's cloud kernel, busybox and the measuring program, one vCPU each.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel, type GuestKernel } from "../../harness/kernels.js";
import { ShellGuest } from "../measure/shell-guest.js";
import { Channel } from "../vmm/channel.js";
import { Machine } from "../vmm/machine.js";
import type { Contender } from "./contender.js";
import { countersOf, outcomeOf } from "./counters.js";
import {
  address,
  freePort,
  isNetworkPath,
  joinBridge,
  makeBridge,
  type NetworkPath,
  netOf,
  USER_GUEST,
  USER_HOST,
} from "./links.js";
import { type PathName, TESTS } from "./names.js";
import type { Request } from "./plan.js";
import { limitSeconds, parseSample, program, requestWords } from "./program.js";

export const MEMORY_MIB = 128;
/** What both poll is in the common section. */
const CHANNEL = { peers: 2, areaBytes: 1 << 20, commonBytes: 64 << 10 } as const;
const MODULES = ["virtio_net", "uio_pci_generic"];
const PORT = 5001;
/** By which the follower's program speaks to the shell of its guest. */
const PIPE = "/tmp/said";

/** What is prepared before: fetched and built where there may be no network later. */
export async function linuxFiles(): Promise<{ readonly kernel: GuestKernel; readonly initrd: string }> {
  const kernel = await ensureKernel("cloud");
  const file = { type: "file", path: "bin/netbench", data: readFileSync(program()), mode: 0o755 } as const;
  return { kernel, initrd: await guestInitramfs({ extraFiles: [file], modules: MODULES, kernel }) };
}

interface Guest {
  readonly machine: Machine;
  readonly shell: ShellGuest;
}

/** Two guests; 0 leads, 1 follows. */
export class LinuxPair {
  readonly machines: readonly Machine[];
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
  }

  /** Booted and connected. `paths` are those that can be had here. */
  static async boot(
    files: Awaited<ReturnType<typeof linuxFiles>>,
    paths: readonly PathName[],
    pair: number,
  ): Promise<LinuxPair> {
    const links = paths.filter(isNetworkPath);
    const channel = Channel.create(CHANNEL);
    const userPort = links.includes("user") ? await freePort() : 0;
    const cores = cpus().length;
    const guests: Guest[] = [];
    try {
      for (const path of links) makeBridge(path, pair);
      for (const peer of [0, 1]) {
        const nets = links.map((path) => netOf(path, pair, peer, { tcp: [{ host: userPort, guest: PORT }] }));
        const machine = await Machine.create({
          kernel: files.kernel.bzImage,
          initrd: files.initrd,
          cmdline: "console=ttyS0 quiet",
          memory: MEMORY_MIB << 20,
          nets,
          shm: [{ channel, peer }],
          ...(cores < 2 ? {} : { pin: [(2 * pair + peer) % cores] }),
        });
        guests.push({ machine, shell: new ShellGuest(machine.console, machine.console) });
        for (const path of links) joinBridge(path, pair, peer);
        machine.start();
      }
      const [leader, follower] = guests as [Guest, Guest];
      for (const [peer, { shell }] of [leader, follower].entries()) await connect(shell, links, pair, peer);
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

async function connect(
  shell: ShellGuest,
  links: readonly NetworkPath[],
  pair: number,
  peer: number,
): Promise<void> {
  await shell.ready();
  for (const [index, path] of links.entries()) {
    const own = path === "user" ? USER_GUEST : address(path, pair, peer);
    await shell.run(`ip addr add ${own}/24 dev eth${index}; ip link set eth${index} up`);
  }
  // Held open at both ends, so that neither side of it waits for the other.
  await shell.run(`mkfifo ${PIPE}; sleep 1000000 <>${PIPE} >/dev/null 2>&1 &`);
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
    refusal: () => undefined,
    async run(request) {
      const used = pairs.slice(0, request.pairs);
      const counters = () =>
        countersOf(used.flatMap((pair) => pair.machines.map((machine) => machine.kvmStats())));
      const before = counters();
      await Promise.all(used.map((pair, i) => pair.follow(path, i, request)));
      const texts = await Promise.all(used.map((pair, i) => pair.lead(path, i, request)));
      return outcomeOf(texts.map(parseSample), before, counters());
    },
  };
}
