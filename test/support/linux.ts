// SPDX-License-Identifier: Apache-2.0
/**
 * Linux guests for tests: Debian's kernel, a busybox shell on the console, commands typed into it.
 *
 *     await using guest = await LinuxGuest.boot({ cpus: 2 });
 *     expect(await guest.sh("nproc")).toBe("2");
 */

import type { DebianDisk } from "../../harness/disk-image.js";
import { GUEST_READY, type GuestInitramfsOptions, guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel, type KernelFlavour } from "../../harness/kernels.js";
import {
  diskBoot,
  Machine,
  type MachineOptions,
  type MonitorOptions,
  type RestoreOptions,
  type StopInfo,
} from "../../src/vmm/index.js";
import { formatStopInfo } from "../../src/vmm/stop-info.js";

/** What Debian's own installation passes, and the console; nothing that helps us. */
export const CMDLINE = "console=ttyS0 quiet";

export interface LinuxOptions extends Partial<MachineOptions> {
  /** Default `cloud`. Ignored where `kernel` is given. */
  readonly flavour?: KernelFlavour;
  /** Behind CMDLINE. */
  readonly append?: string;
  readonly initramfs?: GuestInitramfsOptions;
  /** In a monitor process. Disposing of the guest ends it there as well. */
  readonly monitor?: MonitorOptions;
}

/** Only against hangs: a wait normally ends by what is awaited, or by the machine's end. */
const HANG_MS = 300_000;
const TAIL_CHARS = 3000;

/** What getty asks. */
export const LOGIN = /\S+ login: /;
/** Its last line, so that all of it is in the report. */
const PANIC = /---\[ end Kernel panic/;
/** How far back a pattern may begin, when more text has come. */
const OVERLAP = 1024;
/** The console comes in tiny pieces: many are looked at together. */
const GATHER_MS = 10;

/** What is awaited on the console did not come. */
export class ConsoleError extends Error {}

export class LinuxGuest {
  readonly machine: Machine;
  /** All that came from the console, one character a byte. */
  text = "";
  /** Whether a panic of the kernel is part of the test. Otherwise it ends every wait. */
  mayPanic = false;
  /** Where the next wait looks from: behind what the last one found. */
  #position = 0;
  #checking = false;
  #commands = 0;
  #changed: () => void = () => {};
  readonly #end: Promise<StopInfo>;
  #ended: StopInfo | undefined;

  private constructor(machine: Machine) {
    this.machine = machine;
    machine.console.on("data", (chunk: Buffer) => {
      this.text += chunk.toString("latin1");
      this.#checkSoon();
    });
    for (const event of ["end", "close"]) machine.console.on(event, () => this.#checkSoon());
    machine.on("stop", (info) => {
      this.#ended = info;
      this.#checkSoon();
    });
    this.#end = new Promise((resolve) => machine.once("stop", resolve));
  }

  /** A machine with its kernel loaded; nothing runs yet. */
  static async create(options: LinuxOptions = {}): Promise<LinuxGuest> {
    const { all, monitor } = await LinuxGuest.#options(options);
    return new LinuxGuest(await (monitor ? Machine.spawn(all, monitor) : Machine.create(all)));
  }

  /** Going on from a snapshot, at the shell that it had: `sh` and `run` work at once. */
  static async restore(directory: string, options: LinuxOptions & RestoreOptions): Promise<LinuxGuest> {
    const { all, monitor } = await LinuxGuest.#options(options);
    const guest = new LinuxGuest(await Machine.restore(directory, all, monitor));
    guest.#commands = 1000; // answers to the first one's commands may still be on their way
    guest.machine.start();
    return guest;
  }

  static async #options(options: LinuxOptions) {
    const { flavour, append, initramfs, monitor, ...machine } = options;
    const kernel = machine.kernel ?? (await ensureKernel(flavour ?? "cloud")).bzImage;
    const initrd = machine.initrd ?? (await LinuxGuest.#initramfs(flavour, initramfs));
    const cmdline = append === undefined ? CMDLINE : `${CMDLINE} ${append}`;
    return { all: { cmdline, ...machine, kernel, initrd }, monitor };
  }

  /** With modules of the kernel that is booted. */
  static async #initramfs(
    flavour: KernelFlavour | undefined,
    options: GuestInitramfsOptions | undefined,
  ): Promise<string> {
    const modular = options?.modules !== undefined && options.kernel === undefined;
    const own = modular ? { kernel: await ensureKernel(flavour ?? "cloud") } : {};
    return guestInitramfs({ ...options, ...own });
  }

  /** A guest at its shell. */
  static async boot(options: LinuxOptions = {}): Promise<LinuxGuest> {
    const guest = await LinuxGuest.create(options);
    try {
      guest.machine.start();
      await guest.shell();
      return guest;
    } catch (error) {
      await guest.dispose();
      throw error;
    }
  }

  /** A Debian on a disk, with its own kernel, at its login prompt; what it writes is forgotten. */
  static async bootDisk(disk: DebianDisk, options: LinuxOptions = {}): Promise<LinuxGuest> {
    const { append, disks, ...machine } = options;
    const { kernel, initrd, cmdline } = await diskBoot(disk.path);
    const guest = new LinuxGuest(
      await Machine.create({
        memory: 512 << 20,
        cmdline: `${cmdline} quiet ${append ?? ""}`,
        ...(initrd === undefined ? {} : { initrd }),
        ...machine,
        kernel,
        disks: disks ?? [{ path: disk.path, overlay: "temporary" }],
      }),
    );
    try {
      guest.machine.start();
      await guest.waitFor(LOGIN);
      return guest;
    } catch (error) {
      await guest.dispose();
      throw error;
    }
  }

  /** From the login prompt to the shell that `sh` and `run` speak to, when the system is up. */
  async login({ user, password }: DebianDisk): Promise<void> {
    this.type(`${user}\n`);
    await this.waitFor("Password:");
    this.type(`${password}\n`);
    await this.waitFor(/# $/);
    this.type("stty -echo; echo V3M-SHELL''-READY; exec sh -s 2>&1 | cat\n");
    await this.waitFor(/V3M-SHELL-READY\r?\n/);
    await this.run(
      "export LC_ALL=C PAGER=cat SYSTEMD_COLORS=0; systemctl is-system-running --wait >/dev/null",
    );
  }

  /**
   * Wait until the guest (after its start or a reset) is at its shell, and start one in it without prompt, echo, line
   * editing and job control: busybox's is not interactive where its output is no terminal.
   */
  async shell(): Promise<void> {
    await this.waitFor(GUEST_READY);
    await this.waitFor(/\/ # /);
    this.type("stty -echo; echo V3M-SHELL''-READY; sh -s 2>&1 | cat; poweroff -f\n");
    await this.waitFor(/V3M-SHELL-READY\r?\n/);
  }

  /**
   * Wait for text behind what the last wait found. A pattern should match no more than OVERLAP characters.
   * @returns the match, its index counted from the beginning of all text
   */
  async waitFor(pattern: RegExp | string): Promise<RegExpExecArray> {
    const regexp = typeof pattern === "string" ? new RegExp(pattern.replace(/[^\w\s]/g, "\\$&")) : pattern;
    let timer: NodeJS.Timeout | undefined;
    let hung = false;
    try {
      for (let from = this.#position; ; from = Math.max(from, this.text.length - OVERLAP)) {
        const over = hung || this.#isOver() || (!this.mayPanic && PANIC.test(this.text.slice(from)));
        const match = regexp.exec(this.text.slice(from));
        if (match !== null) {
          match.index += from;
          this.#position = match.index + match[0].length;
          return match;
        }
        if (over) {
          throw new ConsoleError(this.#explain(`${regexp} did not come`));
        }
        await new Promise<void>((resolve) => {
          this.#changed = resolve;
          timer ??= setTimeout(() => {
            hung = true;
            this.#changed();
          }, HANG_MS);
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** How the machine ended; an error with the console's end if it does not. */
  async ended(): Promise<StopInfo> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new ConsoleError(this.#explain("the machine did not stop"))), HANG_MS);
    });
    try {
      return await Promise.race([this.#end, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Type into the console. */
  type(text: string | Uint8Array): void {
    this.machine.console.write(text);
  }

  /** Run a command in the shell. @returns what it printed, both streams, without the last newline */
  async sh(command: string): Promise<string> {
    const { code, output } = await this.run(command);
    if (code !== 0) {
      throw new ConsoleError(`${command}: exit code ${code}: ${output}`);
    }
    return output;
  }

  async run(command: string): Promise<{ code: number; output: string }> {
    const end = `@@${++this.#commands}`;
    this.type(`{ ${command}\n} </dev/null 2>&1\necho "${end}:$?@@"\n`);
    const start = this.#position;
    const match = await this.waitFor(new RegExp(`${end}:(\\d+)@@\\r?\\n`));
    const output = this.text.slice(start, match.index).replace(/\r/g, "");
    return { code: Number(match[1]), output: output.replace(/\n$/, "") };
  }

  async dispose(): Promise<void> {
    if (this.machine.monitored && this.#ended === undefined) {
      await this.machine.quit().catch(() => {}); // it has ended just now
    }
    await this.machine.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #checkSoon(): void {
    if (!this.#checking) {
      this.#checking = true;
      setTimeout(() => {
        this.#checking = false;
        this.#changed();
      }, GATHER_MS);
    }
  }

  /** Nothing more will come: the machine has ended and its console has been read to the end. */
  #isOver(): boolean {
    return (
      this.#ended !== undefined && (this.machine.console.readableEnded || this.machine.console.destroyed)
    );
  }

  #explain(what: string): string {
    const end = this.#ended === undefined ? "the machine still runs" : formatStopInfo(this.#ended);
    return `${what}; ${end}; the console's end:\n${this.text.slice(-TAIL_CHARS)}`;
  }
}
