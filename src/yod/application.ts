// SPDX-License-Identifier: Apache-2.0
/** The application's file: found, read, and checked before anything is made. */
import { constants } from "node:fs";
import { access, type FileHandle, open, realpath, stat } from "node:fs/promises";
import { basename, delimiter, join, resolve } from "node:path";
import { checkApplication, type ElfInfo } from "./elf.js";
import { AppError } from "./errors.js";

/** A program that the lightweight kernel can load. */
export interface Application {
  /** As it was named, or as it was found in PATH: what the program sees as its path. */
  readonly path: string;
  /** Absolute, without symbolic links. */
  readonly realPath: string;
  readonly file: Uint8Array;
  readonly elf: ElfInfo;
}

function fileError(path: string, cause: unknown): AppError {
  const errno = (cause as NodeJS.ErrnoException).code;
  if (errno === "ENOENT" || errno === "ENOTDIR") {
    return new AppError("E_APP_NOT_FOUND", `${path}: no such file`, { errno, cause, hint: "check the path" });
  }
  const denied = errno === "EACCES" || errno === "EPERM";
  return new AppError("E_APP_ACCESS", `cannot read ${path}: ${errno}`, {
    hint: denied ? `chmod a+rx ${path}` : "check the path",
    errno,
    cause,
  });
}

/** As execvp(3): a name without a slash is looked for in PATH. @throws AppError E_APP_NOT_FOUND */
export async function findApplication(
  name: string,
  cwd: string,
  path = process.env.PATH ?? "",
): Promise<string> {
  if (name === "" || name.includes("\0")) {
    throw new AppError("E_APP_NOT_FOUND", `"${name}" names no file`, { hint: "give the path of a program" });
  }
  if (name.includes("/")) {
    return name;
  }
  for (const directory of path.split(delimiter)) {
    const candidate = join(directory === "" ? "." : directory, name);
    const absolute = resolve(cwd, candidate);
    const found = await access(absolute, constants.X_OK).then(
      () => stat(absolute).then((info) => info.isFile()),
      () => false,
    );
    if (found) {
      return candidate;
    }
  }
  const here = await stat(resolve(cwd, name)).then(
    (info) => info.isFile(),
    () => false,
  );
  throw new AppError("E_APP_NOT_FOUND", `${name}: not found in PATH`, {
    hint: here ? `for the file in this directory: ./${name}` : "give the path of a program, such as ./app",
  });
}

/**
 * Find, read and check a program.
 * @throws AppError where it is absent, not readable, not executable, or nothing that can be loaded.
 */
export async function readApplication(
  name: string,
  cwd: string = process.cwd(),
  searchPath?: string,
): Promise<Application> {
  const path = await findApplication(name, cwd, searchPath);
  const absolute = resolve(cwd, path);
  let handle: FileHandle;
  try {
    handle = await open(absolute, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO must not block
  } catch (cause) {
    throw fileError(path, cause);
  }
  try {
    const info = await handle.stat();
    if (!info.isFile()) {
      const what = info.isDirectory() ? "a directory" : "no regular file";
      throw new AppError("E_APP_ACCESS", `${path} is ${what}`, { hint: "give the path of a program" });
    }
    const file = await handle.readFile();
    const elf = checkApplication(file, path);
    if ((info.mode & 0o111) === 0) {
      throw new AppError("E_APP_ACCESS", `${path} is not executable`, { hint: `chmod +x ${path}` });
    }
    return { path, realPath: await realpath(absolute), file, elf };
  } catch (cause) {
    throw cause instanceof AppError ? cause : fileError(path, cause);
  } finally {
    await handle.close();
  }
}

/** What the program's name is for people. */
export function shortName(app: Application): string {
  return basename(app.path);
}
