// SPDX-License-Identifier: Apache-2.0
/** Tiny guests (firmware/README.md): flat images with up to six parameters behind a magic word. */

/** Where flat images are linked to run. */
export const LOAD_ADDRESS = { flat16: 0x7c00, flat64: 0x10_0000 } as const;

/** Parameters stand behind this, 8 bytes each, little-endian. */
export const PARAMETER_MAGIC = "V3MPARM1";
export const PARAMETERS_MAX = 6;

/** Write a parameter into an image, which is changed in place. @returns false where it has none */
export function setParameter(image: Buffer, index: number, value: number | bigint): boolean {
  const magic = image.indexOf(PARAMETER_MAGIC, 0, "latin1");
  if (magic < 0 || index < 0 || index >= PARAMETERS_MAX) return false;
  const at = magic + PARAMETER_MAGIC.length + 8 * index;
  image.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), at);
  return true;
}
