; SPDX-License-Identifier: Apache-2.0
; A guest of `v2m bench net`: peer 0 of a channel measures with peer 1, both in ring 3 by the instructions (core.bin) that
; processes of the host use; or one end of UDP over virtio-net with the other. The result is left in memory at RESULT, where
; the host finds it after the end.
; p0: test, p1: bytes of a message, p2: ticks that it may take (measure.h)
; p3: own IPv4 address, or 0 for the channel, p4, p5: address and port of the other one, which 0 leaves to lead
%define NAME "netbench"
%include "flat64.inc"
%include "idt64.inc"
%include "user64.inc"
%include "apic64.inc"
%include "channel64.inc"
HEADER 1, 8, 0

RESULT          equ 0x300000    ; struct result
CHANNEL         equ 0x320000    ; struct channel
STACK           equ 0x340000    ; its end
OUTGOING        equ 0x400000    ; what is sent
INCOMING        equ 0x800000    ; and received
MOST            equ 4 << 20
DATAGRAM        equ 0xc00000    ; struct datagram
QUEUES          equ 0xd00000    ; 2 MiB

        call    tables_init
        SET_GATE UD, on_ud
        call    user_pages
        mov     ecx, TSS_BYTES - 1
        call    load_tss
        mov     rax, PARAM(0)
        mov     [request.test], rax
        mov     rax, PARAM(1)
        mov     [request.bytes], rax
        mov     rax, PARAM(2)
        mov     [request.ticks], rax
        mov     rax, PARAM(3)
        mov     [request.address], rax
        test    rax, rax
        jz      .channel
        mov     rax, PARAM(4)
        mov     [request.to_address], rax
        mov     [request.leads], rax
        mov     rax, PARAM(5)
        mov     [request.to_port], rax
        lea     rsi, [user]
        mov     edi, RFLAGS
        call    run_user
        jmp     .end
.channel:
        call    channel_open
        xor     ecx, ecx
        call    area
        mov     [request.areas], rax
        mov     rax, [area_bytes]
        mov     [request.area_bytes], rax
        mov     rax, [common_bytes]
        mov     [request.common_bytes], rax
        mov     rax, [id]
        mov     [request.self], rax
        xor     eax, 1
        mov     [request.partner], rax
        mov     [request.leads], rax    ; peer 0 does
        mov     esi, REGISTERS
        mov     dword [rsi + REG_STATE], 1
        mov     rcx, [id]
        xor     ecx, 1
        mov     esi, WINDOW
.absent:
        pause
        cmp     dword [rsi + 4 * rcx], 0
        je      .absent
        lea     rsi, [user]
        mov     edi, RFLAGS
        call    run_user
        ; The follower has said its last word, which leaves with it: the leader goes first.
        mov     esi, WINDOW
        cmp     qword [id], 0
        je      .leave
.there: pause
        cmp     dword [rsi], 0
        jne     .there
.leave: mov     esi, REGISTERS
        mov     dword [rsi + REG_STATE], 0
.end:   mov     rax, [status]
        test    rax, rax
        jz      .good
        neg     rax
        PRINT_DEC "netbench: errno ", rax
        FAIL    "the measurement"
.good:  PASS

user:   mov     esp, STACK
        lea     rdi, [request]
        call    core
        mov     [status], rax
        ud2

section .data
align 64
core:   incbin  "core.bin"
align 8
status: dq      0
; struct payload (payload.c)
request:
        dq      WINDOW + TABLE_BYTES
.common_bytes:
        dq      0
.areas: dq      0
.area_bytes:
        dq      0
.self:  dq      0
.partner:
        dq      0
.leads: dq      0
        dq      CHANNEL, RESULT, MOST
.test:  dq      0
.bytes: dq      0
.ticks: dq      0
        dq      OUTGOING, INCOMING
.address:
        dq      0
.to_address:
        dq      0
.to_port:
        dq      0
        dq      DATAGRAM, QUEUES
