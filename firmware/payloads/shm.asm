; SPDX-License-Identifier: Apache-2.0
; A peer of a VMM-bypass channel (docs/reference/shm.md). Peers pass messages by memory alone,
; from ring 3: peer 0 counts in its own area and waits for its partner to say the same, others echo.
; p0: mode: 0 by memory; 1 peer 0 also rings its partner's doorbell, who sleeps until then (MSI-X);
;     2 writes into what it may not write, and all over the registers; 3 measures: pingpong.inc
; p1: messages, p2: partner of peer 0
; p4: bytes of data with each message of mode 3, whose numbers are in the common section if there is one
; p3: address of three quadwords, or 0: after 100 messages more wait for the first, then set the second
;     when all is done and wait for the third, all without an exit
%define NAME "shm"
%include "flat64.inc"
%include "idt64.inc"
%include "user64.inc"
%include "apic64.inc"
%include "channel64.inc"
%include "pingpong.inc"
HEADER 0, 1000, 1, 0, 0

VECTOR          equ 0x41
WARM_UP         equ 100
PRIVATE         equ 0x400000    ; free RAM
THE_END         equ -1          ; the last message
DATA            equ 64          ; of mode 3, in an area: behind the line that may have the number

        call    tables_init
        SET_GATE UD, on_ud
        SET_GATE VECTOR, on_bell
        call    user_pages
        mov     ecx, TSS_BYTES - 1
        call    load_tss
        call    lapic_enable
        call    channel_open
        PRINT_DEC "shm: peer ", [id]
        PRINT_DEC " of ", [peers]
        PRINT   10
        mov     rcx, PARAM(2)
        cmp     qword [id], 0
        je      .partner
        xor     ecx, ecx
.partner:
        mov     [partner], rcx
        call    area
        mov     [theirs], rax
        mov     eax, PARAM(0)
        cmp     eax, 2
        je      hostile
        cmp     eax, 3
        je      measure
        cmp     eax, 1
        jne     .here
        cmp     qword [id], 0
        je      .here
        mov     eax, VECTOR
        mov     ecx, 1
        mov     edx, 1
        call    channel_interrupts
.here:  call    arrive
        cmp     qword [id], 0
        jne     echo

; Peer 0.
        call    await_partner
        mov     rbx, WARM_UP
        call    ping
        mov     r15, PARAM(3)
        test    r15, r15
        jz      .no_control
        PRINT   "shm: warm", 10
        lea     rsi, [user_controlled]
        mov     rbx, PARAM(1)
        call    ping_by
        jmp     .done
.no_control:
        mov     rbx, PARAM(1)
        call    ping
.done:  mov     rax, [own]
        PRINT_DEC "shm: messages ", rbx
        PRINT   10
        mov     rcx, THE_END
        mov     [rax], rcx
        cmp     qword PARAM(0), 1
        jne     .heard
        mov     rcx, [partner]
        call    ring
.heard: mov     r9, [theirs]            ; who leaves takes the last message along: wait for its answer
.again: pause
        mov     rax, [r9]
        test    rax, rax                ; the partner has left
        jz      .end
        cmp     rax, THE_END
        jne     .again
.end:   PASS

; rbx messages to the partner, each after its answer to the one before.
ping:   lea     rsi, [user_ping]
ping_by:
        mov     r8, [own]
        mov     r9, [theirs]
        mov     r10, [count]
        mov     r11d, REGISTERS
        mov     r12, [partner]
        shl     r12, 16
        inc     r12                     ; vector 1
        mov     r13, PARAM(0)
        call    user
        mov     [count], r10
        ret

arrive: mov     esi, REGISTERS
        mov     dword [rsi + REG_STATE], 1
        PRINT   "shm: here", 10
        ret

await_partner:
        mov     esi, WINDOW
        mov     rcx, [partner]
.absent:
        pause
        cmp     dword [rsi + 4 * rcx], 0
        je      .absent
        ret

; rsi in ring 3, until it executes ud2; all its registers come back but rax, rdi, rsi.
user:   mov     edi, RFLAGS
        jmp     run_user

user_ping:
        call    messages
        ud2
messages:
        mov     rcx, rbx
.next:  inc     r10
        mov     [r8], r10
        cmp     r13d, 1
        jne     .wait
        mov     [r11 + REG_DOORBELL], r12d
.wait:  cmp     [r9], r10
        je      .same
        pause
        jmp     .wait
.same:  dec     rcx
        jnz     .next
        ret

; Between two words of the test, which looks at the exits: all that is touched has been touched before.
user_controlled:
        mov     qword [r15 + 8], 0
        push    rax
        pop     rax
.wait:  pause
        cmp     qword [r15], 0
        je      .wait
        call    messages
        mov     qword [r15 + 8], 1
.seen:  pause
        cmp     qword [r15 + 16], 0
        je      .seen
        ud2

; The others: say what peer 0 says, until that is the end.
echo:   mov     r8, [own]
        mov     r9, [theirs]
        cmp     qword PARAM(0), 1
        je      .asleep
        lea     rsi, [user_echo]
        call    user
        jmp     .end
.asleep:
        call    halt
        mov     rax, [r9]
        mov     [r8], rax
        cmp     rax, THE_END
        jne     .asleep
        PRINT_DEC "shm: rung ", [bells]
        PRINT   10
.end:   PASS

user_echo:
        mov     rax, [r9]
        mov     [r8], rax
        pause
        cmp     rax, THE_END
        jne     user_echo
        ud2

on_bell:
        inc     qword [bells]
        EOI
        jmp     interrupt_end

; Mode 3: as many messages as asked for, twice; the second time by the clock.
measure:
        call    arrive
        call    await_partner
        mov     rcx, [id]
        call    word_of
        mov     r8, rax
        mov     rcx, [partner]
        call    word_of
        mov     r9, rax
        mov     rbx, [own]
        add     rbx, DATA
        mov     rbp, [theirs]
        add     rbp, DATA
        mov     r10, PARAM(4)
        mov     r11d, PRIVATE
        mov     r12d, [id]
        xor     r13d, r13d
        lea     rsi, [user_measure]
        call    user
        sub     r15, r14
        PRINT_DEC "shm: ticks ", r15
        PRINT   10
        PASS
user_measure:
        mov     rcx, PARAM(1)
        call    pingpong
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        mov     r14, rax
        mov     rcx, PARAM(1)
        call    pingpong
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        mov     r15, rax
        ud2
pingpong:
        PINGPONG
        ret

; Write where it may not, then say what is there.
hostile:
        mov     esi, REGISTERS
        mov     dword [rsi + REG_STATE], 1
        mov     r8, [theirs]
.wait:  pause
        cmp     qword [r8], 0           ; until the other one has written
        je      .wait
        mov     rax, [r8]
        PRINT_HEX "shm: read ", rax
        PRINT   10
        mov     rbx, 0x6b6b6b6b6b6b6b6b
        mov     [r8], rbx
        mov     [r8 + 8], ebx
        mov     rcx, [area_bytes]
        mov     [r8 + rcx - 8], rbx
        mov     edi, WINDOW
        mov     [rdi], rbx
        mov     [rdi + TABLE_BYTES - 8], rbx
        mov     edi, REGISTERS
        mov     ecx, 4096 / 4
.register:
        cmp     edi, REGISTERS + REG_STATE
        je      .skip
        mov     [rdi], ebx
.skip:  add     edi, 4
        loop    .register
        mov     edi, REGISTERS + REG_DOORBELL
        xor     ecx, ecx
.bell:  mov     eax, ecx
        shl     eax, 13
        mov     [rdi], eax
        inc     ecx
        cmp     ecx, 2000
        jb      .bell
        mov     rax, [r8]
        PRINT_HEX "shm: still ", rax
        mov     eax, [rdi - REG_DOORBELL + REG_ID]
        PRINT_DEC " id ", rax
        PRINT   10
        PASS

section .bss
alignb 8
theirs: resq 1
partner:
        resq 1
count:  resq 1
bells:  resq 1
section .text
