// SPDX-License-Identifier: Apache-2.0
/** What goes wrong with images. */
import { type ErrorCode, type ErrorDetails, V3mError, VmmError } from "../errors.js";

/** An operation on images failed; what was there before is as it was. */
export class ImageError extends V3mError {}

/** There is no image of that name. */
export function noImage(name: string): ImageError {
  return new ImageError("E_NOT_FOUND", `no image is called ${JSON.stringify(name)}`, {
    hint: "v2m image list shows the names of all",
  });
}

const FULL = /ENOSPC|EDQUOT|No space left|quota exceeded/i;
const DENIED = /EACCES|EPERM|EROFS|Permission denied|Read-only/;

/** The error for a failed system call or program, by its words. @param code where the words say nothing better */
export function imageError(
  what: string,
  words: string,
  details: ErrorDetails = {},
  code: ErrorCode = "E_IO",
): ImageError {
  const message = `${what}: ${words}`;
  if (FULL.test(words)) {
    const hint = "the disk is full: nothing was changed; make room (df -h) and try again";
    return new ImageError("E_IO", message, { ...details, hint, errno: "ENOSPC" });
  }
  if (DENIED.test(words)) {
    return new ImageError("E_PERMISSION", message, { hint: "see whose the files are: ls -l", ...details });
  }
  return new ImageError(code, message, { hint: "check the path", ...details });
}

/** An ImageError of whatever was thrown; errors of the toolkit stay what they are. */
export function asImageError(error: unknown, what: string): V3mError {
  if (error instanceof VmmError && error.errno === "ENOSPC")
    return imageError(what, "ENOSPC", { cause: error });
  if (error instanceof V3mError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  return imageError(what, String(message), {
    cause: error,
    ...(typeof code === "string" ? { errno: code } : {}),
  });
}
