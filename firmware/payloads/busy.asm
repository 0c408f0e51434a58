; SPDX-License-Identifier: Apache-2.0
; Never ends. p0: 0 spins, 1 halts with interrupts off, 2 halts and wakes by the periodic timer,
; 3 writes port p1 without end. Prints "busy: ready" first.
%define NAME "busy"
%include "flat64.inc"
%include "idt64.inc"
%include "apic64.inc"
HEADER 0, 0xf0

VECTOR  equ 0x40
PERIOD  equ 1000000

        call    tables_init
        SET_GATE VECTOR, on_tick
        PRINT   "busy: ready", 10
        mov     rax, PARAM(0)
        mov     rdx, PARAM(1)
        cmp     eax, 1
        jb      .spin
        je      .halt
        cmp     eax, 2
        ja      .ports
        call    lapic_enable
        LAPIC_WRITE LAPIC_LVT_TIMER, TIMER_PERIODIC | VECTOR
        LAPIC_WRITE LAPIC_TIMER, PERIOD
        sti
.halt:  hlt
        jmp     .halt
.spin:  jmp     .spin
.ports: out     dx, al
        jmp     .ports

on_tick:
        EOI
        iretq
