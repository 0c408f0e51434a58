; SPDX-License-Identifier: Apache-2.0
; What an adaptation module offers, called while it comes and goes. p0: rounds, 0 until p4 is set;
; p1: a port; p2: number of a hypercall that adds two arguments; p3: sum of what is called (1 the
; port, 2 the gate's port, 4 the gate's page); p4: not 0 ends it. Each answer must be right, or say
; that nobody is there (all ones, HYPERCALL_E_UNKNOWN) or has just failed (HYPERCALL_E_FAILED).
%define NAME "hypercall"
%include "flat64.inc"
%include "hypercall64.inc"
MARK    equ 0x8877665544332211
HEADER 100, 0x510, 0x100, 7, 0

        mov     eax, HYPERCALL_PROBE
        HYPERCALL_OUT
        mov     rdx, rax
        shr     rdx, 32
        cmp     edx, HYPERCALL_HERE
        jne     .none
        mov     eax, eax
        PRINT_DEC "hypercall: version ", rax
        PRINT   10
        mov     eax, 0xfff              ; nobody may have it
        HYPERCALL_OUT
        cmp     rax, HYPERCALL_E_UNKNOWN
        jne     .unknown
        mov     eax, 0x12345678         ; no signature: a write like any other
        mov     edx, HYPERCALL_PORT
        out     dx, eax
        cmp     eax, 0x12345678
        jne     .touched
        mov     eax, HYPERCALL_SIGNATURE
        mov     edx, HYPERCALL_PORT
        out     dx, ax                  ; too narrow
        cmp     eax, HYPERCALL_SIGNATURE
        jne     .touched

        xor     r12d, r12d              ; rounds
.round: inc     r12
        test    qword PARAM(3), 1
        jz      .out
        mov     rdx, PARAM(1)
        mov     eax, 1
        out     dx, eax
        in      eax, dx
        cmp     eax, -1
        je      .out
        inc     qword [device_answers]
.out:   test    qword PARAM(3), 2
        jz      .store
        call    arguments
        HYPERCALL_OUT
        call    check
.store: test    qword PARAM(3), 4
        jz      .next
        call    arguments
        HYPERCALL_STORE
        call    check
.next:  cmp     qword PARAM(4), 0
        jne     .done
        cmp     r12, PARAM(0)
        jne     .round

.done:  PRINT_DEC "hypercall: rounds ", r12
        PRINT_DEC " device ", [device_answers]
        PRINT_DEC " answers ", [answers]
        PRINT_DEC " unknown ", [unknown]
        PRINT_DEC " failed ", [failures]
        PRINT   10
        PASS
.none:  FAIL    "no gate"
.unknown: FAIL  "an unknown number was answered"
.touched: FAIL  "a write that is no call changed eax"

; Called at one depth of the stack: check finds rsp as it is here.
arguments:
        mov     rdi, r12
        lea     rsi, [r12 * 2]
        mov     r8, MARK
        mov     r9, rsp
        mov     eax, PARAM(2)
        ret

check:  lea     rdx, [r12 * 3]
        cmp     rax, rdx
        jne     .error
        inc     qword [answers]
        jmp     .registers
.error: cmp     rax, HYPERCALL_E_UNKNOWN
        jne     .failed
        inc     qword [unknown]
        jmp     .registers
.failed:
        cmp     rax, HYPERCALL_E_FAILED
        jne     .wrong
        inc     qword [failures]
.registers:
        cmp     rdi, r12
        jne     .lost
        lea     rdx, [r12 * 2]
        cmp     rsi, rdx
        jne     .lost
        mov     rdx, MARK
        cmp     r8, rdx
        jne     .lost
        cmp     r9, rsp
        jne     .lost
        ret
.wrong: PRINT_HEX "hypercall: result ", rax
        PRINT   10
        FAIL    "a wrong result"
.lost:  FAIL    "a register was lost"

section .data
device_answers: dq 0
answers:        dq 0
unknown:        dq 0
failures:       dq 0
