// SPDX-License-Identifier: Apache-2.0
/** Methods and places by their names on the command line. */

export const METHODS = ["selfish", "fwq", "ftq"] as const;
export type Method = (typeof METHODS)[number];

export const PLACES = ["host", "linux", "lwk"] as const;
export type Place = (typeof PLACES)[number];
