// SPDX-License-Identifier: Apache-2.0
/** The programs that change the host's network: `ip` of iproute2, `nft`, `iptables`. */
import { spawn } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { denied, NetworkError } from "./errors.js";

const PACKAGES: Readonly<Record<string, string>> = { ip: "iproute2", nft: "nftables", iptables: "iptables" };
/** With the directories in which they are, for users whose path lacks them. */
const searchPath = () => `${process.env.PATH ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`;

export interface CommandOptions {
  readonly signal?: AbortSignal | undefined;
  /** For its standard input. */
  readonly input?: string;
}

/**
 * Run one of them. Changes are not aborted half-way: the signal is looked at before.
 * @returns its standard output
 * @throws NetworkError E_UNSUPPORTED (not installed), E_PERMISSION, E_NETWORK with what it complained about
 */
export async function command(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  options.signal?.throwIfAborted();
  const child = spawn(program, args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C", PATH: searchPath() },
  });
  let [output, words] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    words += text;
  });
  child.stdin.on("error", () => {}); // it has ended, and its code says why
  child.stdin.end(options.input ?? "");
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause: NodeJS.ErrnoException) => reject(notStarted(program, cause)));
    child.once("close", resolve);
  });
  if (code !== 0) throw complaint(program, args, words.trim());
  return output;
}

/** Whether the program is installed. */
export async function isInstalled(program: string): Promise<boolean> {
  for (const directory of searchPath().split(":")) {
    const found = await access(join(directory, program), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}

function notStarted(program: string, cause: NodeJS.ErrnoException): NetworkError {
  const missing = cause.code === "ENOENT";
  return new NetworkError(missing ? "E_UNSUPPORTED" : "E_IO", `cannot run ${program}: ${cause.code}`, {
    hint: missing ? `sudo apt install ${PACKAGES[program] ?? program}` : "check its permissions",
    errno: cause.code,
    cause,
  });
}

function complaint(program: string, args: readonly string[], words: string): NetworkError {
  const what = `${program} ${args.join(" ")}`;
  if (/Operation not permitted|must be root|Permission denied/i.test(words)) return denied(what);
  return new NetworkError("E_NETWORK", `${what}: ${words === "" ? "failed without a word" : words}`, {
    hint: "ip link, ip addr and nft list ruleset show what there is",
  });
}
