// SPDX-License-Identifier: Apache-2.0
/** Files that are either as they were or as they are to be, whatever happens in between. */
import { readFileSync, rmSync } from "node:fs";
import { type FileHandle, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { StoreError } from "./errors.js";
import { uniqueSuffix } from "./unique.js";

const TEMPORARY = /^\.[A-Za-z0-9._-]+\.tmp$/;

function hint(errno: string | undefined): string {
  switch (errno) {
    case "ENOSPC":
    case "EDQUOT":
      return "the disk is full: nothing was changed; make room (df -h) and try again";
    case "EROFS":
      return "the file system is read-only; V3M_STATE_DIR names another place";
    case "EACCES":
    case "EPERM":
      return "it may be another user's; V3M_STATE_DIR names another place";
    default:
      return "check the directory and its permissions";
  }
}

/** Makes a StoreError of a failed system call. */
export function storeError(error: unknown, what: string): StoreError {
  const { code, message } = error as NodeJS.ErrnoException;
  const errno = typeof code === "string" ? code : undefined;
  const denied = errno === "EACCES" || errno === "EPERM";
  return new StoreError(denied ? "E_PERMISSION" : "E_IO", `${what}: ${message}`, {
    errno,
    hint: hint(errno),
    cause: error,
  });
}

/** Renames are on the disk only when their directory is. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function fill(handle: FileHandle, data: string): Promise<void> {
  try {
    await handle.writeFile(data);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Replace `directory/name`: temporary file, fsync, rename, fsync of the directory. The caller has the lock of the
 * directory.
 * @throws StoreError; then the file is as it was
 */
export async function writeAtomically(directory: string, name: string, data: string): Promise<void> {
  const temporary = join(directory, `.${name}.${uniqueSuffix()}.tmp`);
  try {
    await fill(await open(temporary, "wx", 0o600), data);
    await rename(temporary, join(directory, name));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw storeError(error, `cannot write ${join(directory, name)}`);
  }
  try {
    await syncDirectory(directory);
  } catch (error) {
    throw storeError(error, `cannot write ${directory}`);
  }
}

/** Remove what commands that were killed left in a directory whose lock the caller has. */
export async function removeTemporaries(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (TEMPORARY.test(name)) await rm(join(directory, name), { force: true });
  }
}

/**
 * A file of the store: an object with a version.
 * @returns undefined where there is none
 * @throws StoreError E_VERSION where a newer V3M wrote it, E_STORE where it is damaged
 */
export function readVersioned(path: string, version: number): Record<string, unknown> | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw storeError(error, `cannot read ${path}`);
  }
  let value: Record<string, unknown> | null;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw damaged(path, cause);
  }
  if (typeof value !== "object" || value === null || typeof value.version !== "number") {
    throw damaged(path);
  }
  if (value.version > version) {
    throw new StoreError(
      "E_VERSION",
      `${path} was written by a newer V3M (format ${value.version}, this one knows ${version})`,
      {
        hint: "use that V3M, or another state directory: V3M_STATE_DIR",
      },
    );
  }
  return value;
}

export function damaged(path: string, cause?: unknown): StoreError {
  return new StoreError("E_STORE", `${path} is damaged`, {
    hint: "mend it by hand, or remove the directory it is in and define the VM again",
    cause,
  });
}
