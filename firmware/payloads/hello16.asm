; SPDX-License-Identifier: Apache-2.0
; Prints a line in real mode and powers off.
%define NAME "hello16"
%include "flat16.inc"
HEADER

        mov     sp, FLAT16_BASE
        SAY     put16, "Hello from V3M in real mode", 10, NAME, ": ok", 10
        mov     al, 0
        out     PORT_EXIT, al
        mov     dx, PORT_SLEEP
        mov     al, SLEEP_S5
        out     dx, al
.stop:  hlt
        jmp     .stop

PUT put16
