// SPDX-License-Identifier: Apache-2.0
/** Programs of the host that work on images. They end with the command that started them, however it ends. */
import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { promisify } from "node:util";
import type { ErrorCode } from "../errors.js";
import { AbortedError } from "../state/errors.js";
import { ImageError, imageError } from "./errors.js";

const run = promisify(execFile);

const OUTPUT_MAX = 64 << 20;
/** Words of a program that failed are cut to their end. */
const LAST_LINES = 12;

/** A program, the Debian package that has it, and the words that make it tell its version. */
export interface Tool {
  readonly program: string;
  readonly package: string;
  readonly version: readonly string[];
}

export const TOOLS = {
  qemuImg: { program: "qemu-img", package: "qemu-utils", version: ["--version"] },
  umoci: { program: "umoci", package: "umoci", version: ["--version"] },
  skopeo: { program: "skopeo", package: "skopeo", version: ["--version"] },
  mke2fs: { program: "mke2fs", package: "e2fsprogs", version: ["-V"] },
  debugfs: { program: "debugfs", package: "e2fsprogs", version: ["-V"] },
  sfdisk: { program: "sfdisk", package: "fdisk", version: ["--version"] },
  xorriso: { program: "xorriso", package: "xorriso", version: ["--version"] },
  mmdebstrap: { program: "mmdebstrap", package: "mmdebstrap", version: ["--version"] },
  apt: { program: "apt-get", package: "apt", version: ["--version"] },
} as const satisfies Readonly<Record<string, Tool>>;

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Standard input. */
  readonly input?: string;
  /**
   * As root, with mounts and processes of its own that end with it: root itself, or this user's range of subordinate
   * ids, so that files keep their owners.
   */
  readonly asRoot?: boolean;
  /** Of the error where it fails and its words say nothing better. Default E_IO. */
  readonly code?: ErrorCode;
}

/** System programs live in sbin, which a user's PATH often lacks. */
export function toolEnv(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PATH: `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`,
    LC_ALL: "C",
    ...more,
  };
}

/** Whether this process is root. */
export const isRoot = (): boolean => process.geteuid?.() === 0;

function asRoot(argv: readonly string[]): string[] {
  const user = isRoot() ? [] : ["--map-root-user", "--map-auto"];
  // The first process of the namespace takes all others with it.
  return ["unshare", ...user, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", ...argv];
}

/** Run a program to its end. @returns its standard output. @throws ImageError, AbortedError */
export async function runTool(
  tool: Tool | string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { signal, env, cwd, input } = options;
  const program = typeof tool === "string" ? tool : tool.program;
  const argv = options.asRoot === true ? asRoot([program, ...args]) : [program, ...args];
  try {
    const running = run("setpriv", ["--pdeathsig", "KILL", "--", ...argv], {
      env: toolEnv(env),
      maxBuffer: OUTPUT_MAX,
      killSignal: "SIGTERM",
      ...(cwd === undefined ? {} : { cwd }),
      ...(signal === undefined ? {} : { signal }),
    });
    running.child.stdin?.on("error", () => {}); // it may end before it has read everything
    running.child.stdin?.end(input ?? "");
    return (await running).stdout;
  } catch (cause) {
    if (signal?.aborted === true) throw new AbortedError(program, signal.reason);
    throw toolError(tool, cause, options.code);
  }
}

function toolError(tool: Tool | string, cause: unknown, code?: ErrorCode): ImageError {
  const program = typeof tool === "string" ? tool : tool.program;
  const failed = cause as NodeJS.ErrnoException & { stderr?: string };
  const said = (failed.stderr ?? "").trim().split("\n").slice(-LAST_LINES).join("\n");
  if (failed.code === "ENOENT" || /failed to execute|execute .*: No such file/.test(said)) {
    const hint = `sudo apt install ${typeof tool === "string" ? "util-linux" : tool.package}`;
    return new ImageError("E_UNSUPPORTED", `there is no ${program}`, { hint, cause });
  }
  const words = said === "" ? String(failed.message) : said.replaceAll(`${program}: `, "");
  return imageError(program, words, { cause, hint: "its own words say why" }, code);
}

/** The version of each program, as it says itself: `{ "qemu-img": "7.2.22" }`. */
export async function toolVersions(...tools: readonly Tool[]): Promise<Record<string, string>> {
  const found = await Promise.all(
    tools.map(async ({ program, version }) => {
      const { stdout, stderr } = await run(program, [...version], { env: toolEnv() });
      return [
        program,
        /\d+(\.\d+)+\S*/.exec(stdout + stderr)?.[0]?.replace(/[),]+$/, "") ?? "unknown",
      ] as const;
    }),
  ).catch(() => []);
  return Object.fromEntries(found);
}

/** Remove a directory, also one with files of subordinate ids in it. */
export async function removeTree(path: string): Promise<void> {
  try {
    // Another command that finds it without a lock file makes one there, to remove it too: ENOTEMPTY, then.
    await rm(path, { recursive: true, force: true, maxRetries: 10 });
  } catch (error) {
    if (isRoot()) throw error;
    await runTool("rm", ["-rf", "--", path], { asRoot: true });
  }
}
