; SPDX-License-Identifier: Apache-2.0
; Starts all APs and sends interrupts to them. p0: CPUs in the machine, p1: rounds; in each every
; AP gets one interrupt from the first CPU and answers with one. An AP's local APIC id must be new.
%define NAME "smp"
%include "flat64.inc"
%include "idt64.inc"
%include "apic64.inc"
%include "smp64.inc"
HEADER 2, 1

PING    equ 0x40
PONG    equ 0x41

        call    tables_init
        SET_GATE PING, on_ping
        SET_GATE PONG, on_pong
        call    lapic_enable
        call    check_id
        call    smp_start
        mov     rdx, PARAM(0)
        call    smp_wait
        PRINT_DEC "smp: cpus ", rax
        PRINT   10
        sti
        LAPIC_READ LAPIC_ID
        mov     [first_id], eax
        mov     rbx, PARAM(1)
        xor     r8d, r8d                ; answers expected so far
.round: test    rbx, rbx
        jz      .done
        dec     rbx
        add     r8, PARAM(0)
        dec     r8
        LAPIC_WRITE LAPIC_ICR, ICR_FIXED | ICR_TO_OTHERS | PING
.wait:  pause
        cmp     [answers], r8
        jb      .wait
        jmp     .round
.done:  test    r8, r8
        jz      .none
.last:  pause                           ; at least one answer has arrived as an interrupt
        cmp     qword [pongs], 0
        je      .last
.none:  PRINT_DEC "smp: interrupts ", r8
        PRINT   10
        PASS

ap_main:
        call    check_id
        sti
.idle:  hlt
        jmp     .idle

; Mark this CPU's local APIC id as seen.
check_id:
        LAPIC_READ LAPIC_ID
        shr     eax, 24
        lock bts [ids], eax
        jc      .twice
        ret
.twice: FAIL    "two CPUs have one local APIC id"

on_ping:
        push    rax
        push    rdi
        EOI
        mov     eax, [first_id]
        LAPIC_WRITE LAPIC_ICR_HIGH, eax
        LAPIC_WRITE LAPIC_ICR, ICR_FIXED | PONG
        lock inc qword [answers]
        pop     rdi
        pop     rax
        iretq

; Several answers that arrive together are one interrupt, so each AP counts for itself.
on_pong:
        inc     qword [pongs]
        EOI
        iretq

section .bss
alignb 8
answers: resq 1
pongs:  resq 1
first_id: resd 1
ids:    resb 256 / 8
