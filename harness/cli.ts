/** The command line of v2m-testbed: options in, exit code out. */
import { constants } from "node:fs";
import { access, mkdir, realpath, stat } from "node:fs/promises";
import { Command, CommanderError } from "commander";
import { TestbedError } from "./common/errors.js";
import { guestInitramfs } from "./initramfs.js";
import { ensureKernel } from "./kernels.js";
import {
  buildEnvironment,
  PASSED_VARIABLES,
  parseCpus,
  parseKind,
  parseMemory,
  parseTimeout,
  usage,
} from "./options.js";
import { rawTerminal } from "./terminal.js";
import {
  defaultKind,
  EXIT_TESTBED,
  exitCodeOf,
  type ForwardedSignal,
  InterruptedError,
  Interruption,
  loadMachine,
  type RunRequest,
  runIn,
  type TestbedKind,
} from "./testbed.js";

interface Options {
  readonly cpu?: TestbedKind;
  readonly memory: number;
  readonly cpus: number;
  readonly timeout?: number;
  readonly env: string[];
  readonly out?: string;
  readonly stdin: boolean;
  readonly prepare?: boolean;
  readonly verbose?: boolean;
}

const HELP = `
The command sees this computer's files, and may change them without changing the
originals (except in the --out directory). It runs as root, in the same working
directory, with these variables of yours: ${PASSED_VARIABLES.slice(0, 6).join(" ")}
${PASSED_VARIABLES.slice(6).join(" ")}; and V3M_TESTBED=amd|intel|host.

Exit code: the command's (128 + n if signal n ended it), or
  124  --timeout elapsed
  125  the testbed failed, or its options are wrong (a message says why)
  126  the command cannot be executed
  127  the command was not found
  128 + n  the testbed was ended by signal n

Examples:
  v2m-testbed -- npm test                       on AMD-V, emulated if need be
  v2m-testbed --cpu intel --timeout 1800 -- npm test
  v2m-testbed --out results -- sh -c 'dmesg > $V3M_TESTBED_OUT/dmesg.txt'
  v2m-testbed                                   a shell to look around in
  v2m-testbed --prepare                         download and build all caches now
`;

/** Runs the command line and returns the exit code. Never rejects. */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  const program = new Command("v2m-testbed")
    .description("Run a command on a machine with AMD-V or Intel VT, whatever this computer has.")
    .argument("[command...]", "program and arguments (default: a shell)")
    .option("--cpu <kind>", "amd, intel or host (default: host where that works, else amd)", parseKind)
    .option("--memory <size>", "memory of the machine, for example 1536M or 4G", parseMemory, 4096)
    .option("--cpus <n>", "number of CPUs; more than 1 is unreliable under emulation", parseCpus, 1)
    .option("--timeout <seconds>", "end the command after so long, with exit code 124", parseTimeout)
    .option("--env <name[=value]>", "pass a variable of yours, or set one; may be repeated", collect, [])
    .option("--out <directory>", "writable inside and kept; $V3M_TESTBED_OUT inside is its path")
    .option("--no-stdin", "do not forward standard input; the command reads end-of-file")
    .option("--prepare", "only fetch kernels and build caches, then exit")
    .option("--verbose", "say what is being done")
    .passThroughOptions()
    .addHelpText("after", HELP)
    .exitOverride()
    .configureOutput({ outputError: () => {} });
  try {
    program.parse(argv);
    const options = program.opts<Options>();
    return await main(program.args, options);
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      return report(usage(error.message.replace(/^error: /, "")));
    }
    return report(error);
  }
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

async function main(command: readonly string[], options: Options): Promise<number> {
  const kind = options.cpu ?? (await defaultKind());
  const log = (message: string): void => {
    if (options.verbose) process.stderr.write(`v2m-testbed: ${message}\n`);
  };
  const loud = (message: string): void => void process.stderr.write(`v2m-testbed: ${message}\n`);
  const machine = await loadMachine(kind);
  if (options.prepare) {
    // What guests under test need, too: make then works without network.
    await ensureKernel("cloud", { log: loud });
    await ensureKernel("generic", { log: loud });
    await guestInitramfs();
    await machine.prepare({ memoryMiB: options.memory, cpus: options.cpus, log: loud });
    return 0;
  }
  if (options.cpus > 1 && kind !== "host") {
    loud("warning: with more than one CPU, emulated nested virtualization tends to hang");
  }
  log(`machine: ${kind}, ${options.memory} MiB, ${options.cpus} CPU`);

  const outDir = options.out === undefined ? undefined : await outputDirectory(options.out);
  const terminal = options.stdin && process.stdin.isTTY && process.stdout.isTTY && process.stderr.isTTY;
  const own = { V3M_TESTBED: kind, ...(outDir === undefined ? {} : { V3M_TESTBED_OUT: outDir }) };
  const request: Omit<RunRequest, "stdin"> = {
    command: command.length > 0 ? command : [process.env.SHELL ?? "/bin/sh"],
    cwd: process.cwd(),
    env: buildEnvironment(options.env, process.env, own),
    memoryMiB: options.memory,
    cpus: options.cpus,
    ...(outDir === undefined ? {} : { outDir }),
    stdout: process.stdout,
    stderr: process.stderr,
    terminal,
    log,
  };

  const interruption = new Interruption();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] satisfies ForwardedSignal[]) {
    process.on(signal, () => interruption.signal(signal));
  }
  // Nobody reads what the command writes any more: the shell's convention is to end as by SIGPIPE.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", () => interruption.kill(new InterruptedError("SIGPIPE")));
  }
  const limits = options.timeout === undefined ? {} : { timeoutMs: options.timeout };
  if (!terminal) {
    const stdin = options.stdin ? process.stdin : null;
    return runIn(machine, { ...request, stdin }, limits, interruption);
  }
  const raw = rawTerminal(process.stdin, () => interruption.kill(new InterruptedError("SIGINT")));
  try {
    return await runIn(machine, { ...request, stdin: raw.input }, limits, interruption);
  } finally {
    raw.restore();
  }
}

async function outputDirectory(path: string): Promise<string> {
  try {
    // Not recursive: a mistyped path should be an error, and Node's recursive mkdir never ends below /proc.
    await mkdir(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
    const real = await realpath(path);
    if (!(await stat(real)).isDirectory()) throw new Error("not a directory");
    await access(real, constants.W_OK);
    return real;
  } catch (error) {
    throw usage(`--out ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Says on standard error what went wrong and how to mend it; returns the exit code. */
function report(error: unknown): number {
  const code = exitCodeOf(error);
  if (error instanceof InterruptedError && error.signal === "SIGPIPE") return code;
  const lines: string[] = [];
  if (error instanceof TestbedError) {
    lines.push(`v2m-testbed: ${error.message} [${error.code}]`);
    if (error.hint) lines.push(`hint: ${error.hint}`);
    if (error.consoleLog) lines.push("--- console of the machine:", error.consoleLog.trimEnd(), "---");
  } else {
    lines.push(`v2m-testbed: internal error: ${error instanceof Error ? error.stack : String(error)}`);
  }
  process.stderr.write(`${lines.join("\n")}\n`);
  return code === 0 ? EXIT_TESTBED : code;
}
