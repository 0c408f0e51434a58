// SPDX-License-Identifier: Apache-2.0
/** QEMU's tool for images in its own formats. */
import { stat } from "node:fs/promises";
import type { OperationOptions } from "../vmm/backend.js";
import { ImageError } from "./errors.js";
import { runTool, TOOLS } from "./tools.js";

/** Run qemu-img. @returns its standard output. @throws ImageError E_UNSUPPORTED where there is none, E_IO, E_BUSY */
export async function qemuImg(args: readonly string[], options: OperationOptions = {}): Promise<string> {
  return await runTool(TOOLS.qemuImg, args, options);
}

/** qemu-img's exit code where an image has clusters that nothing refers to: no harm but room. */
const LEAKS_ONLY = 3;

/** What is wrong with a qcow2 image, in qemu-img's words; a machine may be using it. */
export async function qcow2Problem(
  path: string,
  options: OperationOptions = {},
): Promise<string | undefined> {
  try {
    const text = await qemuImg(["check", "-U", "--output=json", "-f", "qcow2", path], options);
    // What is missing at the end would be read as zeroes.
    const end = (JSON.parse(text) as Record<string, unknown>)["image-end-offset"];
    return typeof end === "number" && end > (await stat(path)).size ? "it is not all there" : undefined;
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== "E_IO" || error.errno !== undefined) throw error;
    const { code } = error.cause as { readonly code?: unknown };
    return code === LEAKS_ONLY ? undefined : error.message;
  }
}

/** What qemu-img tells of an image. */
export interface QemuImageInfo {
  readonly format: string;
  readonly "virtual-size": number;
  readonly "backing-filename"?: string;
  readonly "full-backing-filename"?: string;
}

/** Only looks: a machine may be using the image. @param format what it is; without, qemu-img guesses */
export async function qemuImageInfo(path: string, format?: string): Promise<QemuImageInfo> {
  const as = format === undefined ? [] : ["-f", format];
  return JSON.parse(await qemuImg(["info", "-U", "--output=json", ...as, path])) as QemuImageInfo;
}
