; SPDX-License-Identifier: Apache-2.0
; Computes without exits. p0: rounds. The result is that of a 64-bit xorshift generator started with 1.
%define NAME "compute"
%include "flat64.inc"
HEADER 100000

        mov     rcx, PARAM(0)
        mov     eax, 1
.next:  mov     rdx, rax
        shl     rdx, 13
        xor     rax, rdx
        mov     rdx, rax
        shr     rdx, 7
        xor     rax, rdx
        mov     rdx, rax
        shl     rdx, 17
        xor     rax, rdx
        dec     rcx
        jnz     .next
        PRINT_DEC "compute: rounds ", PARAM(0)
        PRINT_HEX " result ", rax
        PRINT   10
        PASS
