; SPDX-License-Identifier: Apache-2.0
; One of a channel's peers that check each other, and do damage when they are told to. Each says numbered messages to
; its partners, one at a time, and checks theirs to the last word; what it must not see has to read as zero.
; p0: its partners, a bit each; p1: its name: none has had it before, and p1 + 1 ... are its own, too; p2: seed
; Commands come on the UART, a byte each, and are answered by a line:
;   ? say how it stands: `peers: leaks N`, and for each other peer ` P=XHEARD/ERRORS`, where X is h hidden, a absent,
;     r absent but its area is not empty, s there but not in step yet, f fine, b said something wrong
;   s fill its own area with noise, again and again, and be silent
;   j leave and come back with an empty area and the next name
;   d ring all doorbells, also those that are not there
;   w write into all that is not its own
;   q leave and power off
%define NAME "peers"
%include "flat64.inc"
%include "idt64.inc"
%include "user64.inc"
%include "apic64.inc"
%include "channel64.inc"
%include "random64.inc"
HEADER 0, 1, 1

VECTOR_UART     equ 0x40
VECTOR_BELL     equ 0x41
UART_GSI        equ 4
IER_RECEIVE     equ 1
MCR_LISTEN      equ 0x0b        ; DTR, RTS, OUT2: the interrupt line is on
IIR             equ UART_FCR
IIR_NONE        equ 1
PEERS_MAX       equ 64
NOISE_PASSES    equ 16
RINGS           equ 2000
WRITES          equ 500

; What a peer says to another: in its own area, SLOT_BYTES for each.
SLOT_SHIFT      equ 8
SLOT_FROM       equ 0           ; its name
SLOT_TO         equ 8           ; the other's, as it knows it
SLOT_HEARD      equ 16          ; the last message that it has heard
SLOT_SAID       equ 24          ; the last that it has said
SLOT_WORDS      equ 32
WORDS           equ 16
STEP            equ 0x9e3779b97f4a7c15

; What it knows of another.
PEER_SHIFT      equ 6
PEER_NAME       equ 0           ; as the table of states has it; 0: not there
PEER_PHASE      equ 8
PEER_SAID       equ 16
PEER_HEARD      equ 24
PEER_TOTAL      equ 32          ; of all its names
PEER_ERRORS     equ 40

HIDDEN          equ 0
ABSENT          equ 1
REMAINS         equ 2
JOINING         equ 3
FINE            equ 4
BAD             equ 5

        call    tables_init
        SET_GATE UD, on_ud
        SET_GATE VECTOR_BELL, on_bell
        SET_GATE VECTOR_UART, on_uart
        call    user_pages
        mov     ecx, TSS_BYTES - 1
        call    load_tss
        call    lapic_enable
        call    channel_open
        lea     rsi, [user_empty]
        call    user
        test    rbx, rbx
        jz      .empty
        FAIL    "its area was not empty"
.empty: mov     rax, PARAM(1)
        mov     [name], rax
        mov     rax, PARAM(2)
        mov     [seed], rax
        mov     eax, VECTOR_BELL
        xor     ecx, ecx
        mov     edx, 1
        call    channel_interrupts
        call    listen
        call    arrive
        PRINT   "peers: here", 10

main:   cmp     byte [silent], 0
        jne     .rest
        lea     rsi, [user_pass]
        call    user
        test    ebx, ebx
        jz      .rest
        sti                             ; interrupts come here only, and in halt
        nop
        cli
        jmp     .command
.rest:  call    halt
        cli
.command:
        movzx   eax, byte [command]
        mov     byte [command], 0
        cmp     al, '?'
        je      report
        cmp     al, 's'
        je      noise
        cmp     al, 'j'
        je      join
        cmp     al, 'd'
        je      storm
        cmp     al, 'w'
        je      trespass
        cmp     al, 'q'
        jne     main
        call    leave
        PASS

; rsi in ring 3, until it executes ud2; all its registers come back but rax, rdi, rsi.
user:   mov     edi, RFLAGS
        jmp     run_user

arrive: mov     eax, [name]
        jmp     set_state
leave:  xor     eax, eax
set_state:
        mov     esi, REGISTERS
        mov     [rsi + REG_STATE], eax
        ret

; ------------------------------------------------------------------ messages, in ring 3

; All peers once; ebx: is there anything new?
user_pass:
        xor     ebx, ebx
        xor     r12d, r12d
        lea     r13, [records]
.peer:  cmp     r12, [id]
        je      .next
        call    attend
.next:  add     r13, 1 << PEER_SHIFT
        inc     r12
        cmp     r12, [peers]
        jb      .peer
        ud2

; Peer r12, of which r13 is known. r8: its area, r14: what it is told, r15: what it says.
attend: mov     rcx, r12
        call    area
        mov     r8, rax
        mov     rax, PARAM(0)
        bt      rax, r12
        jnc     .hidden
        mov     r14, r12
        shl     r14, SLOT_SHIFT
        add     r14, [own]
        mov     r15, [id]
        shl     r15, SLOT_SHIFT
        add     r15, r8
        call    state
        cmp     rax, [r13 + PEER_NAME]
        jne     .other
        mov     rcx, [r13 + PEER_PHASE]
        cmp     ecx, FINE
        je      .talk
        cmp     ecx, JOINING
        je      .joining
        cmp     ecx, BAD
        je      .done
        call    look                    ; it is not there: nor should anything of it be
        mov     eax, ABSENT
        mov     ecx, REMAINS
        test    rdi, rdi
        cmovnz  eax, ecx
        mov     [r13 + PEER_PHASE], rax
        ret
.hidden:
        call    look
        test    rdi, rdi
        jz      .done
        inc     qword [leaks]
.done:  ret

; It came, left, or is another one.
.other: mov     [r13 + PEER_NAME], rax
        mov     ecx, ABSENT
        mov     edx, JOINING
        test    rax, rax
        cmovnz  ecx, edx
        mov     [r13 + PEER_PHASE], rcx
        xor     ecx, ecx
        mov     [r13 + PEER_SAID], rcx
        mov     [r13 + PEER_HEARD], rcx
        mov     [r14 + SLOT_SAID], rcx
        mov     [r14 + SLOT_HEARD], rcx
        mov     [r14 + SLOT_TO], rax
        mov     rcx, [name]
        mov     [r14 + SLOT_FROM], rcx
        jmp     .tell

; Its area may still be that of the one before, and what it says be for the one before us.
.joining:
        call    addressed
        jne     .done
        mov     qword [r13 + PEER_PHASE], FINE
.talk:  xor     r10d, r10d              ; anything new?
        call    addressed
        jne     .wrong
        mov     rax, [r15 + SLOT_SAID]
        mov     rcx, [r13 + PEER_HEARD]
        cmp     rax, rcx
        je      .say
        inc     rcx
        cmp     rax, rcx
        jne     .wrong
        mov     rcx, [r13 + PEER_NAME]
        mov     rdx, [name]
        call    wording
        mov     ecx, WORDS
.hear:  cmp     [r15 + SLOT_WORDS + 8 * rcx - 8], rdi
        jne     .wrong
        add     rdi, rsi
        loop    .hear
        mov     [r13 + PEER_HEARD], rax
        mov     [r14 + SLOT_HEARD], rax
        inc     qword [r13 + PEER_TOTAL]
        inc     r10d
.say:   mov     rax, [r13 + PEER_SAID]
        mov     rcx, [r15 + SLOT_HEARD]
        cmp     rcx, rax
        je      .next
        inc     rcx
        cmp     rcx, rax
        jne     .wrong
        jmp     .said
.next:  inc     rax
        mov     rcx, [name]
        mov     rdx, [r13 + PEER_NAME]
        call    wording
        mov     ecx, WORDS
.word:  mov     [r14 + SLOT_WORDS + 8 * rcx - 8], rdi
        add     rdi, rsi
        loop    .word
        mov     [r13 + PEER_SAID], rax
        mov     [r14 + SLOT_SAID], rax
        inc     r10d
.said:  test    r10d, r10d
        jz      .done
.tell:  inc     ebx
        mov     ecx, r12d
        jmp     ring

; No mistake of its where it has just left: its state says so first.
.wrong: call    state
        cmp     rax, [r13 + PEER_NAME]
        jne     .left
        mov     qword [r13 + PEER_PHASE], BAD
        inc     qword [r13 + PEER_ERRORS]
.left:  inc     ebx
        ret

; Does peer r12 mean us? Changes rcx.
addressed:
        mov     rcx, [r13 + PEER_NAME]
        cmp     [r15 + SLOT_FROM], rcx
        jne     .no
        mov     rcx, [name]
        cmp     [r15 + SLOT_TO], rcx
.no:    ret

; State of peer r12 in rax; changes esi.
state:  mov     esi, WINDOW
        mov     eax, [rsi + 4 * r12]
        ret

; Message rax from rcx to rdx: its last word in rdi, rsi more in each before that.
wording:
        mov     rdi, rcx
        shl     rdi, 32
        xor     rdi, rdx
        mov     rsi, STEP
        imul    rsi, rax
        ret

; All words of the area at r8 together in rdi; changes rcx.
look:   xor     edi, edi
        mov     rcx, [area_bytes]
.next:  or      rdi, [r8 + rcx - 8]
        sub     rcx, 8
        jnz     .next
        ret

user_empty:
        mov     r8, [own]
        call    look
        mov     rbx, rdi
        ud2

; ------------------------------------------------------------------ commands

report: PRINT_DEC "peers: leaks ", [leaks]
        xor     ebx, ebx
        lea     r13, [records]
.peer:  cmp     rbx, [id]
        je      .next
        PRINT_DEC " ", rbx
        PRINT   "="
        mov     rcx, [r13 + PEER_PHASE]
        lea     rdx, [phases]
        mov     al, [rdx + rcx]
        call    put_char
        mov     rax, [r13 + PEER_TOTAL]
        call    put_dec
        PRINT_DEC "/", [r13 + PEER_ERRORS]
.next:  add     r13, 1 << PEER_SHIFT
        inc     rbx
        cmp     rbx, [peers]
        jb      .peer
        PRINT   10
        jmp     main

noise:  mov     byte [silent], 1
        mov     r15, [seed]
        lea     rsi, [user_noise]
        call    user
        mov     [seed], r15
        PRINT   "peers: noise", 10
        jmp     main
user_noise:
        mov     r9d, NOISE_PASSES
.pass:  mov     rdi, [own]
        mov     rcx, [area_bytes]
        shr     rcx, 3
.word:  call    random
        mov     [rdi], rax
        add     rdi, 8
        loop    .word
        mov     ecx, [peers]
.bell:  dec     ecx
        call    ring
        test    ecx, ecx
        jnz     .bell
        dec     r9d
        jnz     .pass
        ud2

join:   call    leave
        lea     rsi, [user_clear]
        call    user
        inc     qword [name]
        call    arrive
        mov     byte [silent], 0
        PRINT   "peers: joined", 10
        jmp     main
; Its own area; the others are all new to it.
user_clear:
        mov     rdi, [own]
        mov     rcx, [area_bytes]
        xor     eax, eax
        rep     stosb
        lea     r13, [records]
        mov     rcx, [peers]
.peer:  mov     [r13 + PEER_NAME], rax
        add     r13, 1 << PEER_SHIFT
        loop    .peer
        ud2

storm:  mov     r15, [seed]
        lea     rsi, [user_storm]
        call    user
        mov     [seed], r15
        PRINT   "peers: rang", 10
        jmp     main
; Any of the peers, rarely one that there is not; vectors 0 to 7, of which there are 4.
user_storm:
        mov     esi, REGISTERS
        mov     ecx, RINGS
.ring:  call    random
        and     eax, 0x00070007
        mov     [rsi + REG_DOORBELL], eax
        loop    .ring
        ud2

trespass:
        mov     r15, [seed]
        lea     rsi, [user_trespass]
        call    user
        mov     [seed], r15
        PRINT   "peers: wrote", 10
        jmp     main
; Words anywhere in the window but in its own area, and in registers that are none of its own.
user_trespass:
        mov     r8, [area_bytes]
        imul    r8, [peers]
        add     r8, TABLE_BYTES         ; bytes of the window, which has no common section
        mov     ecx, WRITES
.write: call    random
        xor     edx, edx
        div     r8
        and     edx, ~7
        mov     eax, WINDOW
        add     rdx, rax
        mov     rax, rdx
        sub     rax, [own]
        cmp     rax, [area_bytes]
        jb      .write
        mov     [rdx], r15
        mov     eax, ecx
        and     eax, 0xfff & ~3
        cmp     eax, REG_PEERS
        jbe     .register
        cmp     eax, REG_STATE
        jbe     .next
.register:
        mov     edx, REGISTERS
        mov     [rdx + rax], r15d
.next:  loop    .write
        ud2

; ------------------------------------------------------------------ interrupts

on_bell:
        EOI
        jmp     interrupt_end

listen: mov     ecx, UART_GSI
        mov     eax, VECTOR_UART
        call    ioapic_route
        mov     dx, UART_MCR
        mov     al, MCR_LISTEN
        out     dx, al
        mov     dx, UART_IER
        mov     al, IER_RECEIVE
        out     dx, al
        ret

; Until no cause is left, as the line is edge-triggered.
on_uart:
        push    rax
        push    rdx
.next:  mov     dx, IIR
        in      al, dx
        test    al, IIR_NONE
        jnz     .none
        mov     dx, UART
        in      al, dx
        mov     [command], al
        jmp     .next
.none:  EOI
        pop     rdx
        pop     rax
        jmp     interrupt_end

section .data
phases: db      "harsfb"

section .bss
alignb 8
name:   resq 1
seed:   resq 1
leaks:  resq 1
records:
        resb PEERS_MAX << PEER_SHIFT
command:
        resb 1
silent: resb 1
section .text
