// SPDX-License-Identifier: Apache-2.0
/** Whether images still are what their records say. */
import { open, stat } from "node:fs/promises";
import { V3mError } from "../errors.js";
import type { OperationOptions } from "../vmm/backend.js";
import { digestOf } from "./content.js";
import { OverlayFile } from "./overlay-file.js";
import { qcow2Problem } from "./qemu-img.js";
import type { ImageStore } from "./store.js";

export interface Finding {
  readonly name: string;
  /** Nothing where all is well. */
  readonly problems: readonly string[];
}

/** What is wrong with sealed content, whose name is its digest. */
async function checkSealed(
  store: ImageStore,
  file: string,
  options: OperationOptions,
): Promise<string | undefined> {
  const wanted = file.slice("objects/sha256-".length);
  try {
    const { digest } = await digestOf(store.path(file), `checking ${file}`, options);
    return digest === `sha256:${wanted}` ? undefined : `its content has changed: the digest is ${digest}`;
  } catch (error) {
    return problem(error, options);
  }
}

/** An error as a finding, but for the caller's own. */
function problem(error: unknown, { signal }: OperationOptions): string {
  if (signal?.aborted === true) throw error;
  if (error instanceof V3mError && ["E_ABORTED", "E_UNSUPPORTED"].includes(error.code)) throw error;
  const { code, message } = error as NodeJS.ErrnoException;
  return code === "ENOENT" ? "its content is gone" : message;
}

async function checkOverlay(path: string, basePath: string): Promise<void> {
  const [file, base] = [await open(path, "r"), await open(basePath, "r")];
  try {
    await OverlayFile.open(file, base);
  } finally {
    await file.close();
    await base.close();
  }
}

/** @param seen what came of the sealed files that were looked at already; several images may stand on one */
export async function verifyImage(
  store: ImageStore,
  name: string,
  seen: Map<string, Promise<string | undefined>>,
  options: OperationOptions,
): Promise<Finding> {
  const problems: string[] = [];
  const sealed = async (file: string, what: string) => {
    const found = seen.get(file) ?? checkSealed(store, file, options);
    seen.set(file, found);
    const text = await found;
    if (text !== undefined) problems.push(`${what}${text}`);
  };
  try {
    const { file, base, format, sealed: isSealed } = store.get(name);
    const path = store.path(file);
    if (isSealed) await sealed(file, "");
    else await stat(path);
    if (base !== undefined) await sealed(base, "the image that it stands on: ");
    if (format === "overlay") await checkOverlay(path, store.path(base ?? ""));
    else if (format === "qcow2") {
      const found = await qcow2Problem(path, options);
      if (found !== undefined) problems.push(found);
    }
  } catch (error) {
    if (error instanceof V3mError && error.code === "E_NOT_FOUND") throw error;
    problems.push(problem(error, options));
  }
  return { name, problems };
}
