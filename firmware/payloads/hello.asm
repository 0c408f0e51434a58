; SPDX-License-Identifier: Apache-2.0
; Prints a line and powers off. p0: how many times it prints the line.
%define NAME "hello"
%include "flat64.inc"
HEADER 1

        mov     rcx, PARAM(0)
.next:  PRINT   "Hello from V3M in 64-bit mode", 10
        dec     rcx
        jnz     .next
        PASS
