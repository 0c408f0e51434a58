; SPDX-License-Identifier: Apache-2.0
; Halts and is woken. p0: how often, p1: 0 by the LAPIC timer, 1 by an interrupt from outside,
; p2: IOAPIC pin of that, p3: timer ticks. Prints "halt: ready" when interrupts may come, and a
; line for each from outside.
%define NAME "halt"
%include "flat64.inc"
%include "idt64.inc"
%include "apic64.inc"
HEADER 10, 0, 5, 100000

VECTOR  equ 0x40

        call    tables_init
        SET_GATE VECTOR, on_interrupt
        call    lapic_enable
        mov     ecx, PARAM(2)
        mov     eax, VECTOR
        cmp     qword PARAM(1), 0
        je      .timer
        call    ioapic_route
        jmp     .ready
.timer: LAPIC_WRITE LAPIC_LVT_TIMER, VECTOR
.ready: PRINT   "halt: ready", 10
        xor     ebx, ebx                ; wake-ups seen
.next:  cmp     qword PARAM(1), 0
        jne     .wait
        mov     ecx, PARAM(3)
        LAPIC_WRITE LAPIC_TIMER, ecx
.wait:  cli
        cmp     [interrupts], rbx
        ja      .woken
        call    halt
        jmp     .wait
.woken: inc     rbx
        cmp     qword PARAM(1), 0
        je      .count
        PRINT_DEC "halt: woken ", rbx
        PRINT   10
.count: cmp     rbx, PARAM(0)
        jb      .next
        PRINT_DEC "halt: wake-ups ", rbx
        PRINT   10
        PASS

on_interrupt:
        inc     qword [interrupts]
        EOI
        jmp     interrupt_end

section .bss
alignb 8
interrupts: resq 1
