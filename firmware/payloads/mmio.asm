; SPDX-License-Identifier: Apache-2.0
; Memory-mapped accesses, one exit each. p0: accesses of each kind, p1: address, p2: sum of the
; sizes to use (1 + 2 + 4 + 8), p3: 1 write, 2 read, 3 both. Access i writes the value
; 0x0807060504030201 + i. The sum is that of all values read.
%define NAME "mmio"
%include "flat64.inc"
HEADER 100, 0xd0000000, 15, 3

PATTERN equ 0x0807060504030201

; SIZE bytes, register: the loop for one size
%macro SIZE 2
        test    r9d, %1
        jz      %%done
        xor     ecx, ecx
%%next: test    r10d, 1
        jz      %%read
        mov     rax, r11
        add     rax, rcx
        mov     [rdi], %2
        inc     r12
%%read: test    r10d, 2
        jz      %%step
        xor     eax, eax
        mov     %2, [rdi]
        add     rbx, rax
        inc     r12
%%step: inc     rcx
        cmp     rcx, r8
        jb      %%next
%%done:
%endmacro

        mov     r8, PARAM(0)
        mov     rdi, PARAM(1)
        mov     r9, PARAM(2)
        mov     r10, PARAM(3)
        mov     r11, PATTERN
        xor     ebx, ebx                ; sum
        xor     r12d, r12d              ; accesses
        SIZE    1, al
        SIZE    2, ax
        SIZE    4, eax
        SIZE    8, rax
        PRINT_DEC "mmio: accesses ", r12
        PRINT_HEX " sum ", rbx
        PRINT   10
        PASS
