// SPDX-License-Identifier: Apache-2.0
/** What is booted: the Linux of bench:boot, the lightweight kernel with a program that answers a token, a payload. */
import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/ffi/library.js";
import { buildLaunchModule, lightweightKernelPath } from "../../src/yod/index.js";
import { commandLine } from "../boot/contenders.js";
import { type Guest as LinuxFiles, READY } from "../boot/guest.js";

/** A guest, with everything in files in memory. */
export interface Guest {
  readonly name: string;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly initrd?: string;
  readonly commandLine?: string;
  /** Options of vmm-run that say how the kernel is loaded. */
  readonly load: readonly string[];
  /** What the console has to say. */
  readonly ready: string;
}

export const LINUX_MIB = 128;
export const LWK_MIB = 16;
const PAYLOAD_MIB = 2;
const PAYLOAD_ADDRESS = 0x10_0000;

export function linuxGuest(files: LinuxFiles): Guest {
  return {
    name: "Linux",
    memoryMiB: LINUX_MIB,
    kernel: files.vmlinux,
    initrd: files.initramfs,
    commandLine: commandLine(),
    load: ["-k", "linux"],
    ready: READY,
  };
}

/** A directory in memory of this run, for kernels, modules and the monitors' files. */
export class Workshop {
  readonly directory = mkdtempSync("/dev/shm/v3m-footprint-");
  readonly #kernel = join(this.directory, "lwk.elf");
  #used = 0;

  constructor() {
    copyFileSync(lightweightKernelPath(), this.#kernel);
  }

  /** A new name in it. */
  path(name: string): string {
    return join(this.directory, `${name}-${this.#used++}`);
  }

  monitorDirectory(): string {
    const directory = this.path("vm");
    mkdirSync(directory);
    return directory;
  }

  /** The lightweight kernel with test/programs/token.c, and a token that nobody has seen before. */
  lwkGuest(): Guest {
    const token = randomBytes(16).toString("hex");
    const program = join(packageRoot(), "test/programs/build/token.musl");
    const initrd = this.path("module");
    writeFileSync(
      initrd,
      buildLaunchModule({
        file: readFileSync(program),
        path: program,
        argv: ["token", token],
        env: {},
        pid: 1,
        nodename: "lwk",
      }),
    );
    const load = ["-k", "linux"];
    const ready = `token: ${answerTo(token)}`;
    return { name: "LWK", memoryMiB: LWK_MIB, kernel: this.#kernel, initrd, load, ready };
  }

  /** For a KVM that runs no kernels: the payload `halt`, which waits for an interrupt that does not come. */
  payloadGuest(): Guest {
    const image = readFileSync(join(packageRoot(), "firmware/build/halt.bin"));
    const parameters = image.indexOf("V3MPARM1") + 8;
    image.writeBigUInt64LE(1n, parameters); // one wake-up
    image.writeBigUInt64LE(1n, parameters + 8); // from outside
    const kernel = this.path("halt.bin");
    writeFileSync(kernel, image);
    const load = ["-k", "flat64", "-l", String(PAYLOAD_ADDRESS)];
    return { name: "payload", memoryMiB: PAYLOAD_MIB, kernel, load, ready: "halt: ready" };
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** FNV-1a, as token.c has it. */
function answerTo(token: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(token)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}
