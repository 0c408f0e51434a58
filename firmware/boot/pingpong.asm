; SPDX-License-Identifier: Apache-2.0
; pingpong.inc as a function for the host: struct { messages, own, theirs, bytes, private, last, follow } in rdi.
%include "pingpong.inc"
bits 64
        push    rbx
        push    r12
        push    r13
        mov     rbx, rdi
        mov     rcx, [rbx]
        mov     r8, [rbx + 8]
        mov     r9, [rbx + 16]
        mov     r10, [rbx + 24]
        mov     r11, [rbx + 32]
        mov     r13, [rbx + 40]
        mov     r12d, [rbx + 48]
        PINGPONG
        mov     [rbx + 40], r13
        pop     r13
        pop     r12
        pop     rbx
        ret
