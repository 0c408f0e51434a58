; SPDX-License-Identifier: Apache-2.0
; pingpong.inc as a function for the host: struct { messages, own word, their word, own data, their
; data, bytes, private, last, follow } in rdi.
%include "pingpong.inc"
bits 64
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    rdi
        mov     rcx, [rdi]
        mov     r8, [rdi + 8]
        mov     r9, [rdi + 16]
        mov     rbx, [rdi + 24]
        mov     rbp, [rdi + 32]
        mov     r10, [rdi + 40]
        mov     r11, [rdi + 48]
        mov     r13, [rdi + 56]
        mov     r12d, [rdi + 64]
        PINGPONG
        pop     rdi
        mov     [rdi + 56], r13
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret
