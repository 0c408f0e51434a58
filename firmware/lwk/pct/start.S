/* SPDX-License-Identifier: Apache-2.0 */
/* Entry of the PCT. The QK gives it a stack that is aligned to 16 bytes, and nothing else. */
    .section .text.start, "ax"
    .globl pct_start
pct_start:
    xor %ebp, %ebp
    call pct_main
    ud2

    .section .note.GNU-stack, "", @progbits
