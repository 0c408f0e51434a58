/** The Bochs process: its configuration, its start, and its end without remains. */
import { type ChildProcess, spawn } from "node:child_process";
import { open, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { exists } from "../common/cache.js";
import { TestbedError } from "../common/errors.js";
import { findTool, requireTool, runTool } from "../common/tools.js";

const CONSOLE_TAIL = 16 * 1024;
const SHARE = "/usr/share/bochs";
const ROMS = { bios: "BIOS-bochs-latest", vga: "VGABIOS-lgpl-latest" } as const;
const INSTALL = "apt-get install bochs bochsbios vgabios";

/** The program and how it is started; the same for all runs on this computer. */
export interface BochsTools {
  readonly program: string;
  /** What stands before the program: no network, and death with the parent. */
  readonly prefix: readonly string[];
}

export interface BochsOptions {
  readonly memoryMiB: number;
  /** Images of disks, which are never written to; and the one that is. */
  readonly disks: { readonly boot: string; readonly system: string; readonly tree: string };
  readonly scratch: string;
  /** The machine's own directory: everything in it goes when the machine ends. */
  readonly directory: string;
  /** Directory of a saved machine to continue; its `config` takes the place of ours. */
  readonly restore?: string;
  /** Shared object to load into Bochs. */
  readonly preload?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Virtual instructions in a virtual second. Higher: fewer timer ticks for the same work, but busy-waiting drivers
 * wait longer. Measured in README.md.
 */
const IPS = 100_000_000;

const PLUGINS = [
  ...["speaker=0", "gameport=0", "parallel=0", "biosdev=0", "iodebug=0", "extfpuirq=0"],
  ...["serial=1", "unmapped=1", "usb_uhci=1"],
].join(", ");

/**
 * Ends Bochs when the harness ends, whichever way, and then removes the machine's directory. The harness holds the
 * other side of the leash (standard input here) and never writes: reading ends when it closes it or is gone.
 */
const SUPERVISOR = `
directory=$1; shift
exec 3<&0 4>&2 2>/dev/null # The shell's own messages would end it by SIGPIPE when the harness is gone.
"$@" </dev/null 2>&4 3<&- 4>&- & bochs=$!
exec 4>&-
{ read -r _ <&3; kill -KILL $bochs; } >/dev/null & leash=$!
wait $bochs; status=$?
kill -KILL $leash
rm -rf "$directory"
exit $status
`;

export async function findBochs(): Promise<BochsTools> {
  // Debian's "bochs" is a shell script round this one.
  const program = (await findTool("bochs-bin")) ?? (await requireTool("bochs", "bochs bochsbios vgabios"));
  for (const rom of Object.values(ROMS)) {
    if (await exists(join(SHARE, rom))) continue;
    throw new TestbedError("E_TOOL_MISSING", `${join(SHARE, rom)} is not installed`, { hint: INSTALL });
  }
  return { program, prefix: [...(await noNetwork()), ...(await dieWithParent())] };
}

/** Bochs's only headless display is a VNC server for all the world: give it a network of its own, if possible. */
async function noNetwork(): Promise<string[]> {
  const unshare = await findTool("unshare");
  if (!unshare) return [];
  for (const options of [["--net"], ["--net", "--user", "--map-current-user"]]) {
    const result = await runTool(unshare, [...options, "true"]).catch(() => undefined);
    if (result?.code === 0) return [unshare, ...options, "--"];
  }
  return [];
}

async function dieWithParent(): Promise<string[]> {
  const setpriv = await findTool("setpriv");
  return setpriv ? [setpriv, "--pdeathsig", "KILL", "--"] : [];
}

/** Bochs's configuration file. */
export function configuration(options: BochsOptions): string {
  const { memoryMiB, disks, directory, scratch } = options;
  const inDirectory = (name: string): string => JSON.stringify(join(directory, name));
  // volatile: writes, which do not happen, would go to the journal, which is an unlinked file.
  const image = (path: string, model: string): string =>
    `type=disk, mode=volatile, path=${JSON.stringify(path)}, journal=${inDirectory("journal")}, model="${model}"`;
  return [
    "config_interface: textconfig",
    'display_library: rfb, options="timeout=0"',
    // All named, since other ones are the default when a saved machine is continued; and always in the same order,
    // since Bochs saves timers by number.
    `plugin_ctrl: ${PLUGINS}`,
    // Without this, Bochs's sound thread crashes where there is no sound card.
    "sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy",
    // Haswell: with the later models of Bochs 2.7, AVX2 and XSAVE fail in the nested guest.
    `cpu: model=corei7_haswell_4770, count=1, ips=${IPS}, reset_on_triple_fault=1, ignore_bad_msrs=1`,
    `memory: guest=${memoryMiB}, host=${memoryMiB}`,
    `romimage: file=${join(SHARE, ROMS.bios)}`,
    `vgaromimage: file=${join(SHARE, ROMS.vga)}`,
    "boot: disk",
    "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
    "ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15",
    `ata0-master: ${image(disks.boot, "V3M-BOOT")}`,
    `ata0-slave: ${image(disks.system, "V3M-SYSTEM")}`,
    `ata1-master: type=disk, mode=flat, path=${JSON.stringify(scratch)}, model="V3M-SCRATCH"`,
    `ata1-slave: ${image(disks.tree, "V3M-TREE")}`,
    `com1: enabled=1, mode=file, dev=${inDirectory("console")}`,
    "port_e9_hack: enabled=1",
    "clock: sync=none, time0=utc",
    `log: ${inDirectory("bochs.log")}`,
    "debug: action=ignore",
    "info: action=ignore",
    // Linux reads registers that Bochs lacks, at each tick.
    "error: action=ignore",
    "panic: action=fatal",
    "",
  ].join("\n");
}

export class Bochs {
  readonly #child: ChildProcess;
  readonly #directory: string;
  #errors = "";
  /** Resolves when the process is gone and its output is read to the end, with its exit code; never rejects. */
  readonly exited: Promise<number | null>;

  private constructor(child: ChildProcess, directory: string) {
    this.#child = child;
    this.#directory = directory;
    this.exited = new Promise((resolve) => {
      child.once("close", (code) => resolve(code));
      child.once("error", (error) => {
        this.#errors += error.message;
        resolve(null);
      });
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString("latin1")).slice(-CONSOLE_TAIL);
    });
    child.stdin?.on("error", () => {}); // The exit tells all there is to tell.
  }

  static async start(tools: BochsTools, options: BochsOptions): Promise<Bochs> {
    const { directory } = options;
    const config = join(directory, "bochsrc");
    const commands = join(directory, "commands");
    await writeFile(config, configuration(options));
    // Debian builds the debugger in, which waits for commands: "continue".
    await writeFile(commands, "c\n");
    const source = options.restore === undefined ? ["-f", config] : ["-r", options.restore];
    const argv = [...tools.prefix, tools.program, "-q", ...source, "-rc", commands];
    const child = spawn("/bin/sh", ["-c", SUPERVISOR, "sh", directory, ...argv], {
      stdio: ["pipe", "pipe", "pipe"],
      // Its own session: Ctrl-C on the terminal is for the command inside, not for Bochs.
      detached: true,
      cwd: dirname(directory),
      env: {
        PATH: process.env.PATH ?? "/usr/bin:/bin",
        ...(options.preload === undefined ? {} : { LD_PRELOAD: options.preload }),
        ...options.env,
      },
    });
    return new Bochs(child, directory);
  }

  /** What the machine writes to port 0xE9, after Bochs's own banner. */
  get output(): Readable {
    return this.#child.stdout as Readable;
  }

  /** What Bochs itself complained about so far. */
  get errors(): string {
    return this.#errors
      .split("\n")
      .filter((line) => !/^ALSA |\]\s|^\d+[ie]\[/.test(line))
      .join("\n")
      .trim();
  }

  /** The end of the kernel's console so far; empty once the machine is gone. */
  async console(): Promise<string> {
    const file = await open(join(this.#directory, "console")).catch(() => undefined);
    if (!file) return "";
    try {
      const { size } = await file.stat();
      const start = Math.max(0, size - CONSOLE_TAIL);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(CONSOLE_TAIL), 0, CONSOLE_TAIL, start);
      return buffer.toString("latin1", 0, bytesRead).replaceAll("\r", "");
    } finally {
      await file.close();
    }
  }

  /** Ends the machine at once and waits until nothing of it is left. */
  async kill(): Promise<void> {
    this.#child.stdin?.destroy();
    this.output.resume();
    await this.exited;
  }
}
