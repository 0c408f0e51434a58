; SPDX-License-Identifier: Apache-2.0
; String I/O: KVM may hand over many elements in one exit. p0: elements, p1: port,
; p2: bytes (1, 2, 4), p3: 0 write (bytes 0, 1 ... 255, 0 ...), 1 read and sum up the bytes.
%define NAME "string"
%include "flat64.inc"
HEADER 1000, 0xf0, 1, 0

        mov     rbx, PARAM(2)
        mov     r8, PARAM(0)
        imul    r8, rbx                 ; bytes
        mov     rcx, r8
        mov     edi, BUFFER
        xor     eax, eax
        cld
.fill:  stosb
        inc     al
        loop    .fill

        mov     esi, BUFFER
        mov     edi, BUFFER
        mov     rcx, PARAM(0)
        mov     rdx, PARAM(1)
        cmp     qword PARAM(3), 0
        jne     .read
        cmp     ebx, 2
        ja      .write4
        je      .write2
        rep outsb
        jmp     .sum
.write2:
        rep outsw
        jmp     .sum
.write4:
        rep outsd
        jmp     .sum
.read:  cmp     ebx, 2
        ja      .read4
        je      .read2
        rep insb
        jmp     .sum
.read2: rep insw
        jmp     .sum
.read4: rep insd

.sum:   mov     rcx, r8
        mov     esi, BUFFER
        xor     ebx, ebx
.add:   lodsb
        movzx   eax, al
        add     rbx, rax
        loop    .add
        PRINT_DEC "string: bytes ", r8
        PRINT_DEC " sum ", rbx
        PRINT   10
        PASS
