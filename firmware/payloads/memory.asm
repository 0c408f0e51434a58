; SPDX-License-Identifier: Apache-2.0
; Walks RAM: every page must read as zero, gets a pattern, and must keep it. p0: first address (from
; 2 MiB on), p1: end, p2: step. Anywhere below 2^48, through a window of 1 GiB.
%define NAME "memory"
%include "flat64.inc"
%include "idt64.inc"
HEADER 0x200000, 0x1000000, 4096

WINDOW  equ 1 << 39             ; second entry of the PML4
GIB     equ 1 << 30
KEY     equ 0x5851f42d4c957f2d
LAST    equ 4096 - 8

        call    tables_init
        mov     rax, cr3
        lea     rdx, [pdpt + 3]
        mov     [rax + 8], rdx
        lea     rdx, [pd + 3]
        mov     [pdpt], rdx
        mov     r9, KEY

        xor     r10d, r10d              ; pages
        mov     rbx, PARAM(0)
        call    map
.first: call    window
        mov     rax, [rdi]
        or      rax, [rdi + LAST]
        jnz     .dirty
        mov     rax, rbx
        xor     rax, r9
        mov     [rdi], rax
        mov     [rdi + LAST], rax
        inc     r10
        add     rbx, PARAM(2)
        cmp     rbx, PARAM(1)
        jb      .first

        mov     rbx, PARAM(0)
        call    map
.second:
        call    window
        mov     rax, rbx
        xor     rax, r9
        cmp     [rdi], rax
        jne     .lost
        cmp     [rdi + LAST], rax
        jne     .lost
        add     rbx, PARAM(2)
        cmp     rbx, PARAM(1)
        jb      .second
        PRINT_DEC "memory: pages ", r10
        PRINT   10
        PASS
.dirty: PRINT_HEX "memory: at ", rbx
        PRINT   10
        FAIL    "not zero"
.lost:  PRINT_HEX "memory: at ", rbx
        PRINT   10
        FAIL    "pattern lost"

; Address in the window for page rbx, which moves along with it, into rdi.
window: mov     rax, rbx
        shr     rax, 30
        cmp     rax, r8
        je      .mapped
        call    map
.mapped:
        mov     rdi, rbx
        and     edi, GIB - 1
        mov     rax, WINDOW
        add     rdi, rax
        ret

; Let the window show the GiB of address rbx, r8.
map:    mov     r8, rbx
        shr     r8, 30
        mov     rax, r8
        shl     rax, 30
        or      rax, 0x83               ; present, writable, 2 MiB
        lea     rdi, [pd]
        mov     ecx, 512
.next:  mov     [rdi], rax
        add     rax, 1 << 21
        add     rdi, 8
        loop    .next
        mov     rax, cr3
        mov     cr3, rax
        ret

section .bss
alignb 4096
pdpt:   resb    4096
pd:     resb    4096
