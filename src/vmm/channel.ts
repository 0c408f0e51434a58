// SPDX-License-Identifier: Apache-2.0
/**
 * Channels: shared memory and doorbells between machines, with the hypervisor out of the way (docs/reference/shm.md).
 *
 *     using channel = Channel.create({ peers: 2, areaBytes: 1 << 20 });
 *     const a = await Machine.create({ ...guest, shm: [{ channel, peer: 0 }] });
 *     const b = await Machine.create({ ...guest, shm: [{ channel, peer: 1 }] });
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ArgumentError, LibraryError, V3mError } from "../errors.js";
import * as native from "../ffi/shm.js";
import { whole } from "./options.js";

/** What all peers of a channel agree on. */
export interface ChannelOptions {
  /** 2 to 64; their ids are 0 to `peers` - 1. */
  readonly peers: number;
  /** What each peer writes and the others read: a multiple of 4 KiB, up to 1 GiB. */
  readonly areaBytes: number | bigint;
  /**
   * What every peer may read and write, whoever sees whose area: a multiple of 4 KiB, up to 1 GiB. Default 0: none.
   * Small messages by way of it are faster on some processors; nothing in it is safe from any of the peers.
   */
  readonly commonBytes?: number | bigint;
}

/** A machine's place in a channel. */
interface Place {
  /** Its id: a place is one machine's at a time. */
  readonly peer: number;
  /** Ids of those that may read its area and ring its doorbells. Default `all`. */
  readonly visibleTo?: "all" | readonly number[];
}

/** In a channel of this process. */
export interface OwnChannelPlace extends Place {
  readonly channel: Channel;
}

/**
 * In a channel of a directory's, for machines of several processes: v3m-channel serves it, is started where none does,
 * and ends when nobody is left.
 */
export interface DirectoryChannelPlace extends Place, ChannelOptions {
  /** Made where it does not exist, for this user only. */
  readonly directory: string;
}

export type ShmOptions = OwnChannelPlace | DirectoryChannelPlace;

/** How long a server may take to start. */
const START_MS = 10_000;
const RETRY_MS = 10;
/** A machine that has just ended may have its place for a moment yet. */
const LEAVING_MS = 2000;

/** @throws ArgumentError */
function configOf({ peers, areaBytes, commonBytes = 0 }: ChannelOptions, name: string): native.ChannelConfig {
  const pages = (value: number | bigint, what: string, least: number, most: number) => {
    const bytes = whole(value, `${name}: ${what}`, least, most);
    if (bytes % 4096n !== 0n) {
      throw new ArgumentError(`${name}: ${what} is not a multiple of 4 KiB`, { hint: "such as 1048576" });
    }
    return bytes;
  };
  return {
    peers: Number(whole(peers, `${name}: the number of peers`, 2, native.SHM_PEERS)),
    areaBytes: pages(areaBytes, "the size of an area", 4096, native.SHM_AREA_MAX),
    commonBytes: pages(commonBytes, "the size of the common section", 0, native.SHM_COMMON_MAX),
  };
}

/** @throws ArgumentError */
function placeOf({ peer, visibleTo = "all" }: Place, peers: number, name: string): native.ChannelPlace {
  const id = (value: number, what: string) => Number(whole(value, `${name}: ${what}`, 0, peers - 1));
  const bits =
    visibleTo === "all"
      ? 2n ** 64n - 1n
      : visibleTo.reduce((mask, other) => mask | (1n << BigInt(id(other, "a peer to be seen by"))), 0n);
  return { peer: id(peer, "the peer"), visibleTo: bits };
}

const NOBODY = ["ENOENT", "ECONNREFUSED", "EPIPE", "ECONNRESET"];

/** A channel that a thread of this process serves, for machines that it makes. */
export class Channel implements Disposable {
  #handle: bigint | undefined;
  readonly peers: number;

  private constructor(handle: bigint, peers: number) {
    this.#handle = handle;
    this.peers = peers;
  }

  /** @throws ArgumentError, VmmError E_NO_MEMORY, E_UNSUPPORTED (before Linux 5.1), LibraryError */
  static create(options: ChannelOptions): Channel {
    const config = configOf(options, "channel");
    return new Channel(native.createChannel(config), config.peers);
  }

  /** For libvmmhpc. @returns a descriptor, the caller's. @throws VmmError E_STATE: the place is taken */
  join(place: native.ChannelPlace): number {
    if (this.#handle === undefined) {
      throw new V3mError("E_STATE", "the channel has been closed", { hint: "create another one" });
    }
    return native.joinChannel(this.#handle, place);
  }

  get isOpen(): boolean {
    return this.#handle !== undefined;
  }

  /** Peers that are still there see all others leave. Idempotent. */
  close(): void {
    if (this.#handle !== undefined) {
      native.destroyChannel(this.#handle);
      this.#handle = undefined;
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Takes the place when it is called: a descriptor, the caller's. @throws ArgumentError at once */
export function planShm(options: ShmOptions, index: number): () => Promise<number> {
  const name = `shm ${index}`;
  if ("channel" in options) {
    const { channel } = options;
    const place = placeOf(options, channel.peers, name);
    return () => joinOwn(channel, place);
  }
  const { directory } = options;
  if (directory === "" || directory.includes("\0")) {
    throw new ArgumentError(`${name}: no directory`, { hint: "name one for the channel" });
  }
  const config = configOf(options, name);
  const place = placeOf(options, config.peers, name);
  return () => joinDirectory(directory, config, place);
}

async function joinOwn(channel: Channel, place: native.ChannelPlace): Promise<number> {
  for (const began = Date.now(); ; ) {
    try {
      return channel.join(place);
    } catch (error) {
      const taken = error instanceof V3mError && error.code === "E_STATE" && channel.isOpen;
      if (!taken || Date.now() - began >= LEAVING_MS) throw error;
    }
    await sleep(RETRY_MS);
  }
}

async function joinDirectory(
  directory: string,
  config: native.ChannelConfig,
  place: native.ChannelPlace,
): Promise<number> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const began = Date.now();
  for (let tries = 0; ; tries++) {
    try {
      return await native.openChannel(join(directory, "socket"), config, place);
    } catch (error) {
      if (!(error instanceof V3mError)) throw error;
      const taken = error.code === "E_STATE";
      // Nobody listens, or one that was just ending did.
      const absent = error.code === "E_IO" && NOBODY.includes(error.errno ?? "");
      const patience = taken ? LEAVING_MS : absent ? START_MS : 0;
      if (Date.now() - began >= patience) throw error;
      // One that finds another at work ends at once: starting one more does no harm.
      if (absent && tries % 20 === 0) await startServer(directory, config);
    }
    await sleep(RETRY_MS);
  }
}

/** @throws LibraryError, V3mError E_IO */
async function startServer(directory: string, config: native.ChannelConfig): Promise<void> {
  const { peers, areaBytes, commonBytes } = config;
  const program = native.channelProgram();
  if (!existsSync(program)) {
    throw new LibraryError("E_NO_LIBRARY", `v3m-channel is not at ${program}`, {
      hint: process.env.V3M_CHANNEL ? "correct or unset V3M_CHANNEL" : "make build",
    });
  }
  const sizes = ["--area", `${areaBytes}`, "--common", `${commonBytes}`];
  const child = spawn(program, ["--dir", directory, "--peers", `${peers}`, ...sizes], {
    detached: true,
    stdio: ["ignore", "ignore", "ignore"],
    cwd: "/",
    env: {},
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) =>
      reject(
        new V3mError("E_IO", `cannot start ${program}: ${cause.message}`, { hint: "make build", cause }),
      ),
    );
  });
  child.unref();
}
