/** One QEMU process: its arguments, its channels, its end. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { findTool } from "../common/tools.js";
import { PORTS } from "./agent.js";

/** Channels are socket pairs that QEMU inherits: no paths, hence nothing to clean up and nobody else can connect. */
const CHANNELS = ["monitor", "console", "terminal", "job", "control", "stdin", "stdout", "stderr"] as const;
export type Channel = (typeof CHANNELS)[number];
const FIRST_FD = 3;

/** How much of the console is kept, in characters. */
const CONSOLE_LIMIT = 256 * 1024;

/** What distinguishes one QEMU machine from another. */
export interface QemuProfile {
  readonly accelerator: string;
  readonly cpu: string;
  readonly kvmModules: readonly string[];
  /** Whether a booted machine can be saved and restored. */
  readonly snapshots: boolean;
}

export interface QemuOptions {
  readonly qemu: string;
  readonly profile: QemuProfile;
  readonly kernel: string;
  readonly initramfs: string;
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly outDir?: string;
  /** State of a booted machine to continue from, instead of booting. */
  readonly restore?: string;
}

/**
 * mitigations=off: emulated, they cost time and protect nothing. tsc=reliable: the time-stamp counter is the host's,
 * which the clock watchdog cannot judge under emulation. panic=-1: with -no-reboot, a panic ends QEMU at once.
 */
const KERNEL_PARAMETERS = [
  "intel_iommu=on",
  "console=ttyS0",
  "quiet",
  "panic=-1",
  "mitigations=off",
  "tsc=reliable",
  "clocksource=tsc",
  "no_timer_check",
  "random.trust_cpu=on",
  "audit=0",
  "apparmor=0",
  "cryptomgr.notests",
].join(" ");

/**
 * Network cards on one wire that leads nowhere else, at these addresses: one for the machine itself, and two to be
 * handed on to its guests, for which it has an IOMMU. None has a driver until somebody loads one.
 */
export const CARDS = {
  own: { address: "0000:00:10.0", mac: "52:54:00:0a:00:01" },
  e1000e: { address: "0000:00:11.0", mac: "52:54:00:0a:00:02" },
  virtio: { address: "0000:00:12.0", mac: "52:54:00:0a:00:03" },
} as const;

function cards(): string[] {
  const card = (name: keyof typeof CARDS, driver: string) => {
    const { address, mac } = CARDS[name];
    const device = `${driver},netdev=${name},addr=${address.slice("0000:00:".length)},mac=${mac},romfile=`;
    return ["-netdev", `hubport,id=${name},hubid=0`, "-device", device];
  };
  return [
    ...card("own", "e1000e"),
    ...card("e1000e", "e1000e"),
    ...card("virtio", "virtio-net-pci,disable-legacy=on,iommu_platform=on"),
  ];
}

/** QEMU's arguments, without those that differ between a fresh boot and a restored machine's. */
export function qemuArguments(options: QemuOptions): string[] {
  const { profile } = options;
  const channel = (name: Channel): string[] => [
    "-chardev",
    `socket,id=${name},fd=${FIRST_FD + CHANNELS.indexOf(name)}`,
  ];
  const port = (name: "job" | "control" | "stdin" | "stdout" | "stderr"): string[] => [
    ...channel(name),
    "-device",
    `virtserialport,bus=serial.0,nr=${PORTS[name]},chardev=${name},name=v3m.${name}`,
  ];
  const share = (id: string, tag: string, path: string, readonly: boolean): string[] => [
    "-fsdev",
    // remap: the tree spans several host file systems, whose inode numbers may collide.
    `local,id=${id},path=${path.replaceAll(",", ",,")},security_model=none,multidevs=remap${readonly ? ",readonly=on" : ""}`,
    "-device",
    `virtio-9p-pci,fsdev=${id},mount_tag=${tag}`,
  ];
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    // Remapping of interrupts needs the interrupt controller outside KVM.
    ...["-machine", `q35${profile.accelerator === "kvm" ? ",kernel-irqchip=split" : ""}`],
    ...["-accel", profile.accelerator, "-cpu", profile.cpu],
    ...["-device", "intel-iommu,intremap=on"],
    ...["-smp", String(options.cpus), "-m", `${options.memoryMiB}M`],
    ...["-kernel", options.kernel, "-initrd", options.initramfs, "-append", KERNEL_PARAMETERS],
    // The generation identifier changes at each start: after a restore the guest's kernel then reseeds its random
    // numbers, which would otherwise be the same in all machines restored from one state.
    ...["-device", "vmgenid,guid=auto"],
    ...[...channel("monitor"), "-mon", "chardev=monitor,mode=control"],
    ...[...channel("console"), "-serial", "chardev:console"],
    ...["-device", "virtio-serial-pci,id=serial,max_ports=8"],
    ...[...channel("terminal"), "-device", `virtconsole,bus=serial.0,nr=${PORTS.terminal},chardev=terminal`],
    ...(["job", "control", "stdin", "stdout", "stderr"] as const).flatMap(port),
    ...share("hostroot", "hostroot", "/", true),
    // Always there, so that one saved state fits runs with and without an output directory.
    ...cards(),
    ...share("out", "out", options.outDir ?? "/", options.outDir === undefined),
  ];
}

export interface QemuExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class Qemu {
  readonly #child: ChildProcess;
  #console = "";
  #errors = "";
  /** Resolves when the process is gone and its channels are read to their ends; never rejects. */
  readonly exited: Promise<QemuExit>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.exited = new Promise((resolve) => {
      child.once("close", (code, signal) => resolve({ code, signal }));
      child.once("error", (error) => {
        this.#errors += error.message;
        resolve({ code: 127, signal: null });
      });
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-CONSOLE_LIMIT);
    });
    for (const name of CHANNELS) this.channel(name).on("error", () => {}); // The exit tells all there is to tell.
    this.channel("console").on("data", (chunk: Buffer) => {
      this.#console = (this.#console + chunk.toString("latin1")).slice(-CONSOLE_LIMIT);
    });
  }

  /** Starts QEMU. It dies with this process, however this process ends, and gets none of its terminal's signals. */
  static async start(options: QemuOptions): Promise<Qemu> {
    const args = qemuArguments(options);
    if (options.restore !== undefined) {
      args.push("-incoming", `exec:cat ${quoteForShell(options.restore)}`);
    }
    // If setpriv is missing, the agent still powers off when it sees its control port closed.
    const setpriv = await findTool("setpriv");
    const argv = setpriv
      ? [setpriv, "--pdeathsig", "KILL", "--", options.qemu, ...args]
      : [options.qemu, ...args];
    const child = spawn(argv[0] as string, argv.slice(1), {
      stdio: ["ignore", "ignore", "pipe", ...CHANNELS.map(() => "pipe" as const)],
      detached: true,
    });
    return new Qemu(child);
  }

  channel(name: Channel): Duplex {
    return this.#child.stdio[FIRST_FD + CHANNELS.indexOf(name)] as Duplex;
  }

  /** The kernel's console so far. */
  get console(): string {
    return this.#console;
  }

  /** What QEMU itself complained about so far. */
  get errors(): string {
    return this.#errors.trim();
  }

  /** Ends the process at once and waits for its end. The machine has no state worth saving. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    for (const name of CHANNELS) this.channel(name).destroy();
    await this.exited;
  }
}

function quoteForShell(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
