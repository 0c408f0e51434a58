// SPDX-License-Identifier: Apache-2.0
/** The guest of the exit benchmark, byte for byte that of native/tools/exit-guest.h. */

export const GUEST_ADDRESS = 0x1000;
export const DATA_PORT = 0xf0;
export const MARK_PORT = 0xf2;

/** Accesses at the data port for one turn of the guest's loop: an OUT and an IN. */
export const ACCESSES_PER_TURN = 2;

/** 16-bit code: `warm` turns, a mark, `count` turns, a mark, power off. */
export function guestImage(warm: number, count: number): Uint8Array {
  const turns = (number: number) => {
    const immediate = new Uint8Array(Uint32Array.of(number).buffer);
    // mov ecx, number; mov dx, DATA_PORT; 1: out dx, al; in al, dx; dec ecx; jnz 1b; mov dx, MARK_PORT; out dx, al
    return [
      0x66,
      0xb9,
      ...immediate,
      0xba,
      DATA_PORT,
      0,
      0xee,
      0xec,
      0x66,
      0x49,
      0x75,
      0xfa,
      0xba,
      MARK_PORT,
      0,
      0xee,
    ];
  };
  // mov al, 0x34; mov dx, 0x600 (the sleep control register); out dx, al; 2: hlt; jmp 2b
  return Uint8Array.from([
    ...turns(warm),
    ...turns(count),
    0xb0,
    0x34,
    0xba,
    0x00,
    0x06,
    0xee,
    0xf4,
    0xeb,
    0xfd,
  ]);
}
