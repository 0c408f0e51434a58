; SPDX-License-Identifier: Apache-2.0
; From real mode through protected mode to 64-bit mode, with a line in each.
%define NAME "modes16"
%include "flat16.inc"
%include "idt64.inc"
%include "long32.inc"
bits 16
HEADER

        cli
        mov     sp, FLAT16_BASE
        SAY     put16, "modes16: real", 10
        lgdt    [pointer]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword SEL_CODE32:protected
bits 32
protected:
        mov     eax, SEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, FLAT16_BASE
        SAY     put32, "modes16: protected", 10
        call    enter_long
bits 64
        mov     esp, FLAT16_BASE
        call    tables_init
        PRINT   "modes16: long", 10
        PASS

bits 16
PUT put16
bits 32
PUT put32

section .data
pointer:
        dw      gdt_end - gdt - 1
        dd      gdt
