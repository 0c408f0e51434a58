; SPDX-License-Identifier: Apache-2.0
; ELF64 with a PVH entry (Xen docs/misc/pvh: 32-bit protected mode, ebx at hvm_start_info).
%include "boot.inc"
%include "long32.inc"
        ELF64   0, note, note_end - note

PHYS32_ENTRY    equ 18

align 4
note:   dd      4, 4, PHYS32_ENTRY
        db      "Xen", 0
        dd      start
note_end:

bits 32
start:  mov     esp, stack
        call    enter_long
bits 64
        mov     esp, stack
        call    tables_init
        mov     ebx, ebx                ; hvm_start_info
        cmp     dword [rbx], 0x336ec578
        jne     .bad
        PRINT   "boot: pvh", 10
        mov     r12, [rbx + 24]
        xor     r13d, r13d
        cmp     dword [rbx + 12], 0
        je      .map
        mov     rax, [rbx + 16]
        mov     r13, [rax]
        mov     r14, [rax + 8]
.map:   mov     r15, [rbx + 32]
        mov     rsi, [rbx + 40]
        mov     ecx, [rbx + 48]
        mov     edx, 24
        jmp     report
.bad:   FAIL    "no start info"

section .data
file_end:
section .bss
bss_end:
