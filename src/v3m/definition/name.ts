// SPDX-License-Identifier: Apache-2.0
/** Names of VMs: safe as file names on every file system, and as words on a command line. */
export const NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
export const NAME_HELP =
  "1 to 63 letters, digits, dots, hyphens and underscores, the first of them a letter or a digit";

export const NAME = new RegExp(NAME_PATTERN);
