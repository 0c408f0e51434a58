; SPDX-License-Identifier: Apache-2.0
; A peer of a VMM-bypass channel (docs/reference/shm.md). Peers pass messages by memory alone,
; from ring 3: peer 0 counts in its own area and waits for its partner to say the same, others echo.
; p0: mode: 0 by memory; 1 peer 0 also rings its partner's doorbell, who sleeps until then (MSI-X);
;     2 writes into what it may not write, and all over the registers; 3 measures: pingpong.inc
; p1: messages, p2: partner of peer 0
; p4: bytes of data with each message of mode 3
; p3: address of three quadwords, or 0: after 100 messages more wait for the first, then set the second
;     when all is done and wait for the third, all without an exit
%define NAME "shm"
%include "flat64.inc"
%include "idt64.inc"
%include "user64.inc"
%include "apic64.inc"
%include "pingpong.inc"
HEADER 0, 1000, 1, 0, 0

ID              equ 0x4106110a
REGISTERS       equ 0xc0000000
VECTORS         equ 0xc0010000  ; MSI-X table
WINDOW          equ 0xc8000000
TABLE_BYTES     equ 4096
REG_ID          equ 0x00
REG_PEERS       equ 0x04
REG_INTERRUPTS  equ 0x08
REG_DOORBELL    equ 0x0c
REG_STATE       equ 0x10
CONFIG_ADDRESS  equ 0xcf8
CONFIG_DATA     equ 0xcfc
CAP_VENDOR      equ 0x09
CAP_MSIX        equ 0x11
VECTOR          equ 0x41
WARM_UP         equ 100
PRIVATE         equ 0x400000    ; free RAM
THE_END         equ -1          ; the last message

; CONFIG_WRITE register, value (eax if not given)
%macro CONFIG_WRITE 2
        mov     ecx, %1
        mov     eax, %2
        call    config_write
%endmacro

        call    tables_init
        SET_GATE UD, on_ud
        SET_GATE VECTOR, on_bell
        call    user_pages
        mov     ecx, TSS_BYTES - 1
        call    load_tss
        call    lapic_enable
        call    find
        mov     esi, REGISTERS
        mov     eax, [rsi + REG_ID]
        mov     [id], rax
        PRINT_DEC "shm: peer ", rax
        mov     eax, [rsi + REG_PEERS]
        PRINT_DEC " of ", rax
        PRINT   10
        ; Where the areas are: behind the table of states.
        mov     bl, CAP_VENDOR
        call    capability
        lea     ecx, [rax + 16]
        call    config_read
        mov     [area_bytes], rax
        mov     rcx, [id]
        call    area
        mov     [own], rax
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
        call    interrupts_on
.here:  mov     esi, REGISTERS
        mov     dword [rsi + REG_STATE], 1
        PRINT   "shm: here", 10
        cmp     qword [id], 0
        jne     echo

; Peer 0: wait until the partner is there.
        mov     esi, WINDOW
        mov     rcx, [partner]
.absent:
        pause
        cmp     dword [rsi + 4 * rcx], 0
        je      .absent
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

ring:   mov     esi, REGISTERS
        mov     rax, [partner]
        shl     eax, 16
        inc     eax
        mov     [rsi + REG_DOORBELL], eax
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

; Vector 1 of the device to this CPU.
interrupts_on:
        mov     bl, CAP_MSIX
        call    capability
        push    rcx
        call    config_read
        or      eax, 0x80000000         ; MSI-X on
        pop     rcx
        call    config_write
        mov     esi, VECTORS + 16
        mov     dword [rsi], LAPIC
        mov     dword [rsi + 4], 0
        mov     dword [rsi + 8], VECTOR
        mov     dword [rsi + 12], 0
        mov     esi, REGISTERS
        mov     dword [rsi + REG_INTERRUPTS], 1
        ret

; Mode 3: as many messages as asked for, twice; the second time by the clock.
measure:
        mov     esi, REGISTERS
        mov     dword [rsi + REG_STATE], 1
        PRINT   "shm: here", 10
        mov     esi, WINDOW
        mov     rcx, [partner]
.absent:
        pause
        cmp     dword [rsi + 4 * rcx], 0
        je      .absent
        mov     r8, [own]
        mov     r9, [theirs]
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
        PINGPONG
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        mov     r14, rax
        mov     rcx, PARAM(1)
        PINGPONG
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        mov     r15, rax
        ud2

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

; Find the device, and put its BARs where all of 4 GiB is mapped. [slot] is its address on the bus.
find:   mov     ebx, 0x80000800
.slot:  mov     [slot], ebx
        xor     ecx, ecx
        call    config_read
        cmp     eax, ID
        je      .found
        add     ebx, 0x800
        cmp     ebx, 0x80010000
        jb      .slot
        FAIL    "no device"
.found: CONFIG_WRITE 0x10, REGISTERS
        CONFIG_WRITE 0x14, 0
        CONFIG_WRITE 0x18, WINDOW
        CONFIG_WRITE 0x1c, 0
        CONFIG_WRITE 0x20, VECTORS
        CONFIG_WRITE 0x24, 0
        CONFIG_WRITE 0x04, 6
        ret

; Offset of the capability bl, in eax and ecx.
capability:
        mov     ecx, 0x34
        call    config_read
.next:  movzx   ecx, al
        test    ecx, ecx
        jz      .none
        call    config_read
        cmp     al, bl
        je      .found
        shr     eax, 8                  ; the link
        jmp     .next
.found: mov     eax, ecx
        ret
.none:  FAIL    "no capability"

; Configuration register ecx, a multiple of 4: from eax, into eax. Keep ecx; change edx.
config_write:
        push    rax
        mov     eax, [slot]
        or      eax, ecx
        mov     dx, CONFIG_ADDRESS
        out     dx, eax
        pop     rax
        mov     dx, CONFIG_DATA
        out     dx, eax
        ret
config_read:
        mov     eax, [slot]
        or      eax, ecx
        mov     dx, CONFIG_ADDRESS
        out     dx, eax
        mov     dx, CONFIG_DATA
        in      eax, dx
        ret

; Address of the area of peer rcx, in rax; changes edx.
area:   mov     rax, [area_bytes]
        imul    rax, rcx
        mov     edx, WINDOW + TABLE_BYTES
        add     rax, rdx
        ret

section .bss
alignb 8
id:     resq 1
own:    resq 1
theirs: resq 1
partner:
        resq 1
area_bytes:
        resq 1
count:  resq 1
bells:  resq 1
slot:   resd 1
section .text
