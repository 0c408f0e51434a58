/** Running host programs that do one thing and end. */
import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { TestbedError } from "./errors.js";

/** System programs such as depmod live in sbin, which a user's PATH often lacks. */
const EXTRA_DIRECTORIES = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** Absolute path of a program, or undefined. */
export async function findTool(name: string): Promise<string | undefined> {
  const directories = [...(process.env.PATH ?? "").split(delimiter), ...EXTRA_DIRECTORIES];
  for (const dir of directories.filter((entry) => entry.startsWith("/"))) {
    const path = join(dir, name);
    const usable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (usable) return path;
  }
  return undefined;
}

/** Absolute path of a program; E_TOOL_MISSING names the Debian package to install if it is absent. */
export async function requireTool(name: string, debianPackage: string): Promise<string> {
  const path = await findTool(name);
  if (path) return path;
  throw new TestbedError("E_TOOL_MISSING", `${name} is not installed`, {
    hint: `apt-get install ${debianPackage}`,
  });
}

export interface ToolResult {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs a program to its end and collects its output. Rejects only if it cannot be started. */
export function runTool(
  path: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({
        code: code ?? 1,
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr).toString().trim(),
      }),
    );
  });
}
