; SPDX-License-Identifier: Apache-2.0
; Resets the machine, which boots this payload again. p0: 0 by port 0xcf9, 1 by the keyboard
; controller, 2 by a jump to F000:FFF0 in real mode (needs the reset stub there).
%define NAME "reset"
%include "flat64.inc"
%include "idt64.inc"
HEADER

CODE16_BASE equ AP_TRAMPOLINE

        call    tables_init
        PRINT_DEC "reset: method ", PARAM(0)
        PRINT   10
        cmp     qword PARAM(0), 1
        jb      .reset_port
        je      .keyboard
        lea     rsi, [down]
        mov     edi, CODE16_BASE
        mov     ecx, down_end - down
        rep movsb
        mov     word [gdt + SEL_CODE16 + 2], CODE16_BASE & 0xffff
        mov     byte [gdt + SEL_CODE16 + 4], CODE16_BASE >> 16
        push    SEL_CODE32
        push    CODE16_BASE
        o64 retf
.reset_port:
        mov     dx, PORT_RESET
        mov     al, 6
        out     dx, al
        jmp     .stop
.keyboard:
        mov     al, 0xfe
        out     PORT_I8042, al
.stop:  hlt
        jmp     .stop

; Down to real mode: compatibility mode, 32 bits without paging, 16 bits, then protection off
; (Intel SDM 3A, 10.8.5.4 and 10.9.2).
section .data
bits 32
down:   mov     eax, cr0
        and     eax, ~(1 << 31)
        mov     cr0, eax
        mov     ecx, 0xc0000080         ; EFER
        xor     eax, eax
        xor     edx, edx
        wrmsr
        jmp     SEL_CODE16:.code16 - down
bits 16
.code16:
        mov     ax, SEL_DATA16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        o32 lidt [cs:.ivt - down]
        mov     eax, cr0
        and     al, ~1
        mov     cr0, eax
        jmp     0xf000:0xfff0
.ivt:   dw      0x3ff
        dd      0
down_end:
bits 64
section .text
