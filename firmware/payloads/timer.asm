; SPDX-License-Identifier: Apache-2.0
; LAPIC timer. p0: ticks of each mode, p1: sum of the modes (1 one-shot, 2 periodic, 4 TSC deadline),
; p2: LAPIC ticks or TSC ticks between interrupts. A deadline that arrives early is a failure.
%define NAME "timer"
%include "flat64.inc"
%include "idt64.inc"
%include "apic64.inc"
HEADER 5, 7, 1000000

VECTOR  equ 0x40

        call    tables_init
        SET_GATE VECTOR, on_tick
        call    lapic_enable
        sti

        test    qword PARAM(1), 1
        jz      .periodic
        LAPIC_WRITE LAPIC_LVT_TIMER, VECTOR
        xor     ebx, ebx
.one:   mov     ecx, PARAM(2)
        LAPIC_WRITE LAPIC_TIMER, ecx
        inc     rbx
        call    wait_ticks
        cmp     rbx, PARAM(0)
        jb      .one
        PRINT_DEC "timer: one-shot ", rbx
        PRINT   10

.periodic:
        test    qword PARAM(1), 2
        jz      .deadline
        mov     qword [ticks], 0
        LAPIC_WRITE LAPIC_LVT_TIMER, TIMER_PERIODIC | VECTOR
        mov     ecx, PARAM(2)
        LAPIC_WRITE LAPIC_TIMER, ecx
        mov     rbx, PARAM(0)
        call    wait_ticks
        LAPIC_WRITE LAPIC_TIMER, 0
        PRINT_DEC "timer: periodic ", rbx
        PRINT   10

.deadline:
        test    qword PARAM(1), 4
        jz      .done
        mov     eax, 1
        cpuid
        bt      ecx, 24
        jc      .exists
        PRINT   "timer: deadline absent", 10
        jmp     .done
.exists:
        mov     qword [ticks], 0
        LAPIC_WRITE LAPIC_LVT_TIMER, TIMER_DEADLINE | VECTOR
        mfence                          ; orders the write before that of the MSR (SDM 3A, 11.5.4.1)
        xor     ebx, ebx
.next:  rdtsc
        shl     rdx, 32
        or      rax, rdx
        add     rax, PARAM(2)
        mov     r8, rax
        mov     rdx, rax
        shr     rdx, 32
        mov     ecx, MSR_DEADLINE
        wrmsr
        inc     rbx
        call    wait_ticks
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        cmp     rax, r8
        jb      .early
        cmp     rbx, PARAM(0)
        jb      .next
        PRINT_DEC "timer: deadline ", rbx
        PRINT   10
.done:  PASS
.early: FAIL    "early"

; Halt until rbx ticks have come.
wait_ticks:
        cli
        cmp     [ticks], rbx
        jae     .done
        call    halt
        jmp     wait_ticks
.done:  sti
        ret

on_tick:
        inc     qword [ticks]
        EOI
        jmp     interrupt_end

section .bss
alignb 8
ticks:  resq 1
