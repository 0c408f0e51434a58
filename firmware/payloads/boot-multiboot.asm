; SPDX-License-Identifier: Apache-2.0
; Multiboot 1 (specification 0.6.96): 32-bit protected mode, eax the magic, ebx at the information.
; Built as ELF32, as ELF64 (-D ELF_64) and with address fields only (-D RAW).
%include "boot.inc"
%include "long32.inc"
%ifdef ELF_64
        ELF64   start, header, 0
%elifndef RAW
        ELF32   start
%endif

MAGIC           equ 0x1badb002
WANTS_MEMORY    equ 1 << 1
HAS_ADDRESSES   equ 1 << 16
%ifdef RAW
FLAGS           equ WANTS_MEMORY | HAS_ADDRESSES
%else
FLAGS           equ WANTS_MEMORY
%endif

align 4
header: dd      MAGIC, FLAGS, -(MAGIC + FLAGS)
%ifdef RAW
        dd      header, LINK_BASE, file_end, bss_end, start
%endif

bits 32
start:  cmp     eax, 0x2badb002
        jne     $                       ; nothing to print with yet
        mov     esp, stack
        call    enter_long
bits 64
        mov     esp, stack
        call    tables_init
        mov     ebx, ebx
        PRINT   "boot: multiboot", 10
        mov     r12d, [rbx + 16]
        xor     r13d, r13d
        cmp     dword [rbx + 20], 0
        je      .map
        mov     eax, [rbx + 24]
        mov     r13d, [rax]
        mov     r14d, [rax + 4]
        sub     r14, r13
.map:   xor     r15d, r15d
        mov     esi, [rbx + 48]
        mov     edx, [rsi]              ; bytes of an entry behind this field
        add     edx, 4
        mov     eax, [rbx + 44]
        push    rdx
        mov     ecx, edx
        xor     edx, edx
        div     ecx
        mov     ecx, eax
        pop     rdx
        add     rsi, 4
        jmp     report

section .data
file_end:
section .bss
bss_end:
